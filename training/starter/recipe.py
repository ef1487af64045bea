"""Hyperparameters of the starter model; `training/EXPERIMENTS.md` explains how each was chosen."""

NUM_FRAMES = 4
IMAGE_SIZE, SHORT_SIDE = 224, 256  # 26 % faster than the published 260, 292
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255
WIDTH_MULTIPLIER, DEPTH_MULTIPLIER = 1.1, 1.2  # of EfficientNet-Lite2
NUM_TOP_CLASSES = 30  # ImageNet classes per frame that contribute to its embedding, of 1,000
CLASS_TEMPERATURE = 2.0  # of the softmax over classes
ACTIVITY_WEIGHT = 0.75  # weight of activities in the multilingual embeddings of classes
CONTEXT_LENGTH = 128  # longest prompt, in tokens
PREFIX = "a person"  # prefix of texts for the multilingual encoder
GATE_THRESHOLD, GATE_SLOPE = 0.8, 20.0  # gate between encoders, by the fraction of letters in English word pieces
PIECE_LEVELS, PIECE_SPREAD = 16, 2.6  # quantisation of English word pieces: levels, and range in standard deviations
TOKEN_LEVELS, TOKEN_SPREAD = 10, 2.6  # quantisation of the multilingual token table, half of the compressed model
LOGIT_SCALE = 17.0  # maximises the likelihood on the development half of the clips
TEMPLATES = ("{}",)
