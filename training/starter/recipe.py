"""The choices of the starter model, each explained in `training/EXPERIMENTS.md`."""

NUM_FRAMES = 4
IMAGE_SIZE, SHORT_SIDE = 224, 256  # EfficientNet-Lite2 was evaluated at 260 of 292; this takes 0.74 of the time
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255
WIDTH_MULTIPLIER, DEPTH_MULTIPLIER = 1.1, 1.2  # of EfficientNet-Lite2
CLASSES_KEPT = 30  # of the 1,000, in each frame
CLASS_TEMPERATURE = 2.0  # of their softmax
ACTIVITY_WEIGHT = 0.75  # of activities in the multilingual embeddings of classes
CONTEXT_LENGTH = 128  # tokens of a label in its template
PREFIX = "a person"  # what the multilingual encoder reads before every text
GATE_THRESHOLD, GATE_SLOPE = 0.8, 20.0  # share of a text's letters that are English word pieces
PIECE_LEVELS, PIECE_SPREAD = 16, 2.6  # of English word pieces: levels, and deviations they cover to each side
TOKEN_LEVELS, TOKEN_SPREAD = 10, 2.6  # of the multilingual table, half of the whole model once it is compressed
LOGIT_SCALE = 17.0  # by likelihood on the half of the clips that was looked at
TEMPLATES = ("{}",)
