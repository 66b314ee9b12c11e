"""``publish-to-facebook`` (seed 000): a photo with its caption on a Facebook page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from connections.recipes.inputs import RecipeInput, Reference, answered, delete_once, stored_fact
from connections.workflows import Context, step, workflow
from external_apis.errors import StepFailed

__all__ = ["PublishInput", "publish_photo", "publish_to_facebook"]


class PublishInput(RecipeInput):
    connection_id: Reference
    """A connection whose `provider_data` has the `page_id`."""
    image_url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2_000)]
    caption: Annotated[str, Field(max_length=63_206)] = ""


def _delete_post(context: Context, given: Mapping[str, Any], result: Any) -> None:
    if result is None:
        raise StepFailed("Nobody knows whether the photo was published: look at the page.")
    # The Graph API says 400 of what is gone (developers.facebook.com/docs/graph-api/guides/error-handling).
    delete_once(context.get_api_client(given["connection_id"]), f"/{result['post_id']}", says_gone=b"does not exist")


# The Graph API knows no idempotency key.
@step(compensate=_delete_post, is_repeatable=False)
def publish_photo(context: Context, *, connection_id: str, image_url: str, caption: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    response = client.post(f"/{stored_fact(client, 'page_id')}/photos", {"url": image_url, "caption": caption})
    return {"post_id": answered(response, "post_id", "id")}


@workflow("publish-to-facebook", input=PublishInput, needs="proxy")
def publish_to_facebook(context: Context, given: PublishInput) -> Any:
    """Publish a photo on a Facebook page; undone by deleting the post."""
    return publish_photo(context, **given.model_dump())
