"""Default prompt templates for exported models that have none.

They are general sentences about a video; their embeddings are averaged. PE-Core's published evaluation averages 28
similar prompts with other wording, so accuracy can differ slightly from the published results.
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
