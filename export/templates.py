"""Default prompt templates of exported models that define none.

General sentences about a video, averaged as embeddings. PE-Core's published evaluation averages 28 prompts of this
kind; the wording here differs, so accuracy can differ slightly from the published figures.
"""

GENERAL_VIDEO_TEMPLATES = (
    "{}",
    "a video of {}.",
    "a video of a person {}.",
    "a video of someone {}.",
    "a video of people {}.",
    "a short clip of {}.",
    "a short clip of a person {}.",
    "footage of {}.",
    "footage of someone {}.",
    "a recording of a person {}.",
    "a scene of {}.",
    "a person is {}.",
    "people are {}.",
    "an example of {}.",
    "a demonstration of {}.",
    "this video shows {}.",
    "this video shows a person {}.",
    "the action of {}.",
    "a photo of a person {}.",
    "a still from a video of {}.",
)
