"""`GET /v1/vocabularies`: which vocabularies there are, and their labels."""

from typing import Any

from fastapi import APIRouter, Request

from serve.service import Service
from serve.vocabularies.vocabulary import Vocabulary

router = APIRouter(prefix="/v1", tags=["vocabularies"])


@router.get("/vocabularies", summary="Every vocabulary")
async def list_vocabularies(request: Request) -> dict[str, Any]:
    """Name, version and size of each."""
    service: Service = request.app.state.service
    default = service.catalogue.default_for(service.registry.get(None).contract)
    return {
        "vocabularies": [
            {**_facts(vocabulary), "is_default": vocabulary.name == default.name}
            for vocabulary in service.catalogue.all()
        ]
    }


@router.get("/vocabularies/{name}", summary="One vocabulary with its labels")
async def get_vocabulary(request: Request, name: str) -> dict[str, Any]:
    """Labels in order, templates where it has its own."""
    service: Service = request.app.state.service
    vocabulary = service.catalogue.get(name)
    return {**_facts(vocabulary), "labels": list(vocabulary.labels), "templates": vocabulary.templates}


def _facts(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "name": vocabulary.name,
        "version": vocabulary.version,
        "num_labels": len(vocabulary.labels),
        "description": vocabulary.description,
    }
