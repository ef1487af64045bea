"""Prompt templates export gives a model that brings none of its own.

General sentences about a video, averaged as embeddings. PE-Core's published evaluation averages 28 prompts of this
kind;
these are ours, so figures differ from the published ones by what wording does.
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
