"""`ServeOptions`: every choice of a server, its limits among them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from goodnet.core.errors import InvalidOption
from goodnet.formats.toml_files import describe_invalid

#: What a response says of an image whose guard did not work, see docs of `fail`.
Fail = Literal["closed", "open"]


class ServeOptions(BaseModel):
    """The choices of a server; the command line makes an option of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; the default is this machine alone")
    port: int = Field(8000, ge=0, le=65535, description="port; 0 takes a free one")
    resize: bool = Field(False, description="accept images of another size and resize them, instead of refusing them")
    fail: Fail = Field(
        "closed",
        description="what to do if the check gives no finite score, or the audit log cannot be written. closed: refuse the "
        "image, or return 503. open: return the prediction unchecked, or unlogged. An overloaded server or a failing network "
        "always returns an error.",
    )
    confine: bool = Field(
        True,
        description="read a GoodNet's networks in a sandboxed process that reaches no other file, computer or program",
    )
    audit: str | None = Field(None, description="file to which a line of JSON is added for each refusal")
    audit_images: bool = Field(False, description="keep the refused images too, in the folder AUDIT.images")
    max_body_bytes: int = Field(8 << 20, ge=1, description="maximum size of a request body, in bytes")
    max_pixels: int = Field(
        25_000_000, ge=1, description="maximum number of pixels of an image, checked before they are unpacked"
    )
    max_images: int = Field(64, ge=1, description="maximum number of images in one request, and in one batch")
    max_requests: int = Field(
        128, ge=1, description="maximum number of requests that run or wait at once; further ones get 503"
    )
    body_seconds: float = Field(10, gt=0, description="seconds that a client has to send the body of a request")
    request_seconds: float = Field(30, gt=0, description="seconds that a request may wait and run after it has arrived")
    threads: int | None = Field(None, ge=1, description="threads of the network; default: one per core")

    @model_validator(mode="after")
    def _images_need_a_log(self) -> Self:
        if self.audit_images and self.audit is None:
            raise ValueError("audit_images needs audit, the file that the images belong to")
        return self

    @classmethod
    def from_options(cls, **options: Any) -> Self:
        """Make the options; those outside their bounds become one line of `InvalidOption`."""
        try:
            return cls(**options)
        except ValidationError as error:
            raise InvalidOption(f"serve: {describe_invalid(error)}") from error
