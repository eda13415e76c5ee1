"""The fields that calls bear, as schemas: what `gateway.endpoints.picture_fields` checks, with words for readers."""

from __future__ import annotations

from gateway.copy_links import LARGEST_SIDE as LARGEST_LINKED
from gateway.endpoints.inputs import MOST_INPUTS
from gateway.endpoints.picture_fields import LARGEST_SIDE, MOST_PICTURES, SMALLEST_SIDE, SPELLINGS
from gateway.endpoints.responses_body import ACTIONS, EXTRAS
from gateway.endpoints.responses_input import CALL
from gateway.openapi_schema import Schema, any_of, flag, listed, mapped, number, obj, one_of, or_null, ref, text, whole
from gateway.settings import RATIOS
from gateway.transforms import FORMATS

SIDE = whole(f"Pixels, with the other side; at most {LARGEST_SIDE}.", SMALLEST_SIDE, LARGEST_SIDE)

PICTURE: dict[str, Schema] = {
    "model": text("One of the models of `GET /v1/models`, or an alias. Without it the default model.", maxLength=300),
    "n": whole("How many pictures.", 1, MOST_PICTURES),
    "size": text(
        f"`1024x1024` (sides of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels), a ratio such as"
        f" {', '.join(f'`{ratio}`' for ratio in list(RATIOS)[:5])}, or `auto`.",
        maxLength=20,
        pattern="^(|auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}|[1-9][0-9]{0,2}:[1-9][0-9]{0,2})$",
    ),
    "aspect_ratio": text("A ratio such as `16:9`, where no size is given.", maxLength=20),
    "width": SIDE,
    "height": SIDE,
    "seed": whole("The same seed, words and size give the same picture, where the model can. -1: any.", -1, 2**63 - 1),
    "steps": whole("Steps of a diffusion model.", 1, 1000),
    "guidance": number("How closely a diffusion model keeps to the words.", 0, 100),
    "negative_prompt": text("What shall not be in the picture."),
    "quality": text("`low`, `medium`, `high`, `standard`, `hd`, `auto`: as the model has it.", maxLength=500),
    "style": text("`vivid`, `natural`, or a style of the model's own.", maxLength=500),
    "background": text("`transparent`, `opaque` or `auto`.", maxLength=500),
    "output_format": text("`png`, `jpeg`, `webp`; converted here where the model makes another.", maxLength=500),
    "output_compression": whole("Quality of JPEG and WebP in percent.", 0, 100),
    "moderation": text("`low` or `auto`, for models that moderate.", maxLength=500),
    "input_fidelity": text("`high` or `low`: how much an edit keeps of the given pictures.", maxLength=500),
    "partial_images": whole("Previews to be sent in a stream.", 0, 3),
    "user": text("Whom you call for; handed to models that want to know.", maxLength=500),
    "strict": flag("Refuse with 400 what cannot be done exactly as asked, before anything is paid.", default=False),
    "optimize": flag("Let the model's prompt optimizers work.", default=True),
}
"""By their names here; `SPELLINGS` are other names for the same."""

CALLING: dict[str, Schema] = {
    "stream": flag("Answer with server-sent events.", default=False),
    "async": flag("Answer 202 with a job at once; the same as the header `Prefer: respond-async`.", default=False),
    "webhook": text("An http or https URL that is told, signed, when the job has ended.", maxLength=2000),
}
"""How the call shall be answered."""

CHANGE = text("What shall become of the picture.", minLength=1)
PROMPT = text("What the picture shall show. A ratio such as `16:9` in the words counts as the size.", minLength=1)
IDEA = text("What shall be otherwise, if you know.")
FORM = one_of("url", "b64_json", about="Whether pictures come as links or as base64; base64 without this field.")
LINK = text("An http, https or `data:` URL of a picture.")
LINKED = any_of(LINK, obj({"image_url": LINK}), obj({"url": LINK}))


def picture_fields() -> dict[str, Schema]:
    """Give every field of a picture, other spellings included; null is the same as leaving one out."""
    spelled = {name: {**PICTURE[own], "description": f"The same as `{own}`."} for name, own in SPELLINGS.items()}
    return {name: or_null(schema) for name, schema in {**PICTURE, **spelled}.items()}


def _calling(*names: str) -> dict[str, Schema]:
    return {name: or_null(CALLING[name]) for name in names or CALLING}


def _messages() -> Schema:
    parts = any_of(
        obj({"type": one_of("text", "input_text"), "text": text()}),
        obj({"type": one_of("image_url"), "image_url": any_of(LINK, obj({"url": LINK}))}),
        obj({"type": one_of("input_image"), "image_url": any_of(LINK, obj({"url": LINK}))}),
    )
    about = "The last message of the role `user` is what is drawn; image parts in it are changed instead."
    return listed(obj({"role": text()}, {"content": or_null(any_of(text(), listed(parts)))}), about, minItems=1)


def _input() -> Schema:
    parts = any_of(
        obj({"type": one_of("input_text", "text"), "text": text()}),
        obj({"type": one_of("input_image"), "image_url": LINK}),
    )
    message = obj({"role": text(), "content": any_of(text(), listed(mapped()))})
    asked = obj({"role": one_of("user"), "content": any_of(text(minLength=1), listed(parts, minItems=1))})
    drawn = obj({"type": one_of(CALL)}, {"id": text(), "result": or_null(text("The picture as base64."))})
    about = "What to draw, or messages: the last of the role `user` counts. An earlier picture is changed if its "
    about += f"`{CALL}` item is among them, whole or with its id alone."
    return any_of(text(minLength=1), listed(any_of(asked, drawn, message), minItems=1), about=about)


def _tool() -> Schema:
    fields = picture_fields()
    fields["action"] = or_null(one_of(*ACTIONS, about="`auto` changes the pictures in the input if there are any."))
    fields["input_image_mask"] = or_null(
        obj({"image_url": LINK}, about="Its transparent part is drawn anew; as large as the first picture.")
    )
    return obj({"type": one_of("image_generation")}, fields)


def requests() -> dict[str, Schema]:
    """Give the schemas of all bodies."""
    fields, form = picture_fields(), {"response_format": or_null(FORM)}
    upload = {"type": "string", "contentMediaType": "application/octet-stream", "description": "A picture's bytes."}
    uploads = {"image": upload, "image[]": listed(upload, maxItems=MOST_INPUTS), "mask": upload}
    linked = listed(LINKED, maxItems=MOST_INPUTS)
    links = {"image": or_null(any_of(LINKED, linked)), "images": or_null(linked), "mask": or_null(LINKED)}
    calling = _calling()
    extras = {name: fields[name] for name in EXTRAS}
    return {
        "ChatRequest": obj(
            {"messages": _messages()},
            {**fields, **calling, "stream_options": or_null(obj({}, {"include_usage": or_null(flag())}))},
        ),
        "ImageRequest": obj({"prompt": PROMPT}, {**fields, **form, **calling}),
        "EditForm": obj({"prompt": CHANGE}, {**uploads, **fields, **form, **calling}),
        "EditRequest": _with_picture(obj({"prompt": CHANGE}, {**links, **fields, **form, **calling})),
        "VariationForm": obj({}, {**uploads, "prompt": or_null(IDEA), **fields, **form, **calling}),
        "VariationRequest": _with_picture(obj({}, {**links, "prompt": or_null(IDEA), **fields, **form, **calling})),
        "ResponsesRequest": obj(
            {
                "input": _input(),
                "tools": listed(ref("ImageTool"), "Nothing else; any other tool is a 400.", minItems=1, maxItems=1),
            },
            {"model": fields["model"], **extras, **calling, "metadata": or_null(mapped()), "tool_choice": {}},
        ),
        "ImageTool": _tool(),
        "LinkRequest": _link(),
    }


def _link() -> Schema:
    copy = {
        "width": whole("At most this wide; the ratio stays, nothing is enlarged.", 1, LARGEST_LINKED),
        "height": whole("At most this high.", 1, LARGEST_LINKED),
        "format": text(f"One of {', '.join(f'`{kind}`' for kind in FORMATS)}."),
        "quality": whole("Of the copy.", 1, 100),
    }
    life = any_of(number("", 1), text(), about="For how long: seconds, or text such as `12h`; a day without it.")
    about = "At least one of `width`, `height`, `format` and `quality`."
    return obj({}, {name: or_null(schema) for name, schema in (copy | {"expires_in": life}).items()}, about)


def _with_picture(schema: Schema) -> Schema:
    return {**schema, "anyOf": [{"required": ["image"]}, {"required": ["images"]}]}
