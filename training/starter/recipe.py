"""The choices of the starter model, each explained in `training/EXPERIMENTS.md`."""

NUM_FRAMES = 4
IMAGE_SIZE, SHORT_SIDE = 224, 256  # EfficientNet-Lite2 was evaluated at 260 of 292; this is 26 % faster
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255
WIDTH_MULTIPLIER, DEPTH_MULTIPLIER = 1.1, 1.2  # of EfficientNet-Lite2
CLASSES_KEPT = 30  # of 1,000, per frame
CLASS_TEMPERATURE = 2.0  # of their softmax
ACTIVITY_WEIGHT = 0.75  # weight of activities in the multilingual embeddings of classes
CONTEXT_LENGTH = 128  # tokens of a label in its template
PREFIX = "a person"  # prefix of texts for the multilingual encoder
GATE_THRESHOLD, GATE_SLOPE = 0.8, 20.0  # by share of letters in English word pieces
PIECE_LEVELS, PIECE_SPREAD = 16, 2.6  # quantisation of English word pieces: levels, and range in standard deviations
TOKEN_LEVELS, TOKEN_SPREAD = 10, 2.6  # of the multilingual table, half of the compressed model
LOGIT_SCALE = 17.0  # by likelihood on the development half of the clips
TEMPLATES = ("{}",)
