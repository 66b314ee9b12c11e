"""``/api/external/models``: AI models and their order."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from django.db.models import Q
from django.urls import path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import (
    CamelAnswer,
    CamelModel,
    Deleted,
    PageQuery,
    deletes,
    lists,
    reads,
    writes,
)
from external_apis.backoffice import ai_models
from external_apis.backoffice.models import AiModel
from external_apis.json_output import Timestamp
from external_apis.provider_input import RowId


class ModelStatus(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class ModelItem(CamelAnswer):
    id: str
    name: str
    label: str
    tier: str
    supports_media: bool
    order: int
    """From 0 on among the models of its tenant; those that were deleted may have left gaps."""
    enabled: bool
    provider: str
    connection: str
    """What `POST /models/{id}/chat` goes through; empty where the model is only listed."""
    tenant_id: str | None
    created_at: Timestamp
    updated_at: Timestamp


class NewModel(ai_models.AiModelInput):
    model_config = ConfigDict(alias_generator=to_camel)


class ModelPatch(ai_models.AiModelChanges):
    model_config = ConfigDict(alias_generator=to_camel)


class ModelOrder(CamelModel):
    ids: Annotated[list[RowId], Field(max_length=10_000)]
    """Each of a tenant's models once, in their new order; operators name those of any one tenant, or of none."""


class OrderedModels(CamelAnswer):
    ids: list[str]


class ModelQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or label."""
    status: ModelStatus = ModelStatus.ENABLED
    tenant_id: RowId = ""


class ModelList(ResourceView):
    @lists("list_models", "models:read", ModelItem, ModelQuery, "List AI models in their order")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        search = filters.pop("search", "")
        if status := filters.pop("status", None):
            filters["enabled"] = status is ModelStatus.ENABLED
        rows = ai_models.visible(self.scope).filter(**filters)
        if search:
            rows = rows.filter(Q(name__icontains=search) | Q(label__icontains=search))
        return self.page(rows, _shown)

    @writes("create_model", "models:write", NewModel, ModelItem, "Create an AI model behind all others", status=201)
    def post(self, request: Request) -> Response:
        self.require_live()
        return self.answer(_shown(ai_models.create(self.given, self.scope)))


class ModelOrdering(ResourceView):
    @writes("reorder_models", "models:write", ModelOrder, OrderedModels, "Put all AI models into another order")
    def post(self, request: Request) -> Response:
        self.require_live()
        ordered = ai_models.reorder(self.given["ids"], self.scope)
        return self.answer({"ids": [model.pk for model in ordered]})


class ModelPage(ResourceView):
    @reads("get_model", "models:read", ModelItem, "Show an AI model")
    def get(self, request: Request, model_id: str) -> Response:
        return self.answer(_shown(ai_models.find(model_id, self.scope)))

    @writes("update_model", "models:write", ModelPatch, ModelItem, "Change an AI model")
    def patch(self, request: Request, model_id: str) -> Response:
        return self.answer(_shown(ai_models.update(self._found(model_id), self.given)))

    @deletes("delete_model", "models:write", "Delete an AI model; the statistics of its calls stay")
    def delete(self, request: Request, model_id: str) -> Response:
        ai_models.delete(self._found(model_id))
        return self.answer(Deleted(id=model_id).model_dump(by_alias=True))

    def _found(self, model_id: str) -> AiModel:
        self.require_live()
        return ai_models.find(model_id, self.scope)


def _shown(model: AiModel) -> dict[str, Any]:
    item = ModelItem.model_construct(**{name: getattr(model, name) for name in ModelItem.model_fields})
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("models", ModelList.as_view()),
    path("models/reorder", ModelOrdering.as_view()),
    path("models/<str:model_id>", ModelPage.as_view()),
]
