"""The services of docs/notify.md, as far as they judge what they are sent, and how they answer.

Each checks what its service demands: method, path, content type, shape, and lengths. These are
counted in UTF-16, which is never less than characters, so what fits here fits wherever a service
counts otherwise; ntfy's are bytes. What is wrong is refused in the service's own way.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.fakes.receiver import answer

if TYPE_CHECKING:
    import asyncio

    from tests.fakes.receiver import Request


class RefusedError(Exception):
    """Such a request is answered by that status and body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def size(text: str) -> int:
    """In UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class Service:
    """Answers as its service does; keeps what it took, and why it refused."""

    secrets: ClassVar[dict[str, str]] = {}
    """Files of the block, by name, and what is in them."""
    ok: ClassVar[tuple[int, bytes]] = (200, b"")
    limited: ClassVar[tuple[tuple[str, ...], bytes, float]]
    """Headers and body of a 429, and seconds until the next attempt."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.refused: list[str] = []
        self.busy = False
        """The next one is too many."""

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Judge one request, and answer it."""
        if self.busy:
            self.busy = False
            headers, body, _ = self.limited
            await answer(429, headers, body)(request, writer)
            return
        try:
            assert request.method == "POST"
            assert request.headers["content-type"] == "application/json"
            body = json.loads(request.body)
            self.judge(request, body)
        except RefusedError as error:
            self.refused.append(str(error))
            await answer(error.status, (), error.body.encode())(request, writer)
        else:
            self.taken.append(body)
            await answer(self.ok[0], (), self.ok[1])(request, writer)

    def judge(self, request: Request, body: Any) -> None:
        """Raises RefusedError."""
        raise NotImplementedError


class Slack(Service):
    """Incoming webhooks; Block Kit."""

    ok = (200, b"ok")
    limited = (("Retry-After: 30",), b"rate_limited", 30)

    def judge(self, request: Request, body: Any) -> None:
        if not re.fullmatch(r"/services/T\w+/B\w+/\w+", request.target):
            raise RefusedError(404, "no_service")
        if not isinstance(body, dict):
            raise RefusedError(400, "invalid_payload")
        if not body.get("text") and not body.get("blocks"):
            raise RefusedError(400, "no_text")
        blocks = body.get("blocks", [])
        if len(blocks) > 50:
            raise RefusedError(400, "invalid_blocks")
        for block in blocks:
            most = {"header": 150, "section": 3000}.get(block["type"])
            text = block.get("text", {})
            kinds = {"plain_text"} if block["type"] == "header" else {"plain_text", "mrkdwn"}
            if (
                most is None
                or text.get("type") not in kinds
                or not 1 <= size(text.get("text", "")) <= most
            ):
                raise RefusedError(400, "invalid_blocks")

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        return body["text"], "\n".join(block["text"]["text"] for block in body["blocks"])


class Teams(Service):
    """A workflow that posts cards to a channel."""

    ok = (202, b"")
    limited = (
        ("Retry-After: 60", "Content-Type: application/json"),
        b'{"error":{"code":"WorkflowTriggerThrottled","message":"Rate limit is exceeded."}}',
        60,
    )

    def judge(self, request: Request, body: Any) -> None:  # noqa: C901 - rule by rule
        parts = urlsplit(request.target)
        query = parse_qs(parts.query)
        if not parts.path.endswith("/triggers/manual/paths/invoke"):
            raise RefusedError(404, '{"error":{"code":"WorkflowNotFound"}}')
        if query.get("sig") != ["SIGNATURE"] or query.get("sp") != ["/triggers/manual/run"]:
            raise RefusedError(401, '{"error":{"code":"DirectApiAuthorizationRequired"}}')
        if len(request.body) > 28 * 1024:
            raise RefusedError(413, "Request Entity Too Large")
        wrong = RefusedError(400, '{"error":{"code":"TriggerInputSchemaMismatch"}}')
        if body.get("type") != "message" or len(body.get("attachments", [])) != 1:
            raise wrong
        (attachment,) = body["attachments"]
        card = attachment["content"]
        if attachment["contentType"] != "application/vnd.microsoft.card.adaptive":
            raise wrong
        if card["type"] != "AdaptiveCard" or card["version"] not in {"1.2", "1.3", "1.4", "1.5"}:
            raise wrong
        for element in card["body"]:
            if element["type"] != "RichTextBlock":
                raise wrong
            for run in element["inlines"]:
                if run["type"] != "TextRun" or not isinstance(run["text"], str):
                    raise wrong

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        runs = [
            run["text"]
            for element in body["attachments"][0]["content"]["body"]
            for run in element["inlines"]
        ]
        return "", "\n".join(runs)


class PagerDuty(Service):
    """Events API v2; keeps the alerts that are open."""

    secrets: ClassVar[dict[str, str]] = {"pagerduty.key": "0123456789abcdef0123456789abcdef"}
    ok = (202, b'{"status":"success","message":"Event processed","dedup_key":"k"}')
    limited = (("Retry-After: 90",), b"", 90)

    def __init__(self) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()
        self.open: set[str] = set()

    def judge(self, request: Request, body: Any) -> None:  # noqa: C901 - rule by rule
        def refuse(*errors: str) -> RefusedError:
            said = {"status": "invalid event", "message": "Event object is invalid"}
            return RefusedError(400, json.dumps({**said, "errors": errors}))

        if request.target != "/v2/enqueue":
            raise RefusedError(404, "Not Found")
        if len(request.body) > 512 * 1024:
            raise RefusedError(413, "")
        if body.get("routing_key") not in self.secrets.values():
            raise refuse("Length of 'routing_key' is incorrect (should be 32 characters)")
        key, action = body["dedup_key"], body["event_action"]
        if not 1 <= size(key) <= 255:
            raise refuse("'dedup_key' is too long")
        if action == "resolve":
            self.open.discard(key)
            return
        payload = body["payload"]
        if action != "trigger" or payload["severity"] not in {"critical", "error", "warning"}:
            raise refuse("'severity' is invalid")
        if not payload["source"] or not 1 <= size(payload["summary"]) <= 1024:
            raise refuse("'summary' is too long")
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", payload["timestamp"]):
            raise refuse("'timestamp' is no time")
        if not isinstance(payload["custom_details"], dict):
            raise refuse("'custom_details' is no object")
        self.opened[key] += key not in self.open
        self.open.add(key)

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        return "", body["payload"]["summary"] if "payload" in body else ""


class Discord(Service):
    """Execute webhook."""

    ok = (204, b"")
    limited = (
        (
            "Retry-After: 64.57",
            "X-RateLimit-Scope: shared",
            "X-RateLimit-Reset-After: 64.57",
            "Content-Type: application/json",
        ),
        b'{"message":"You are being rate limited.","retry_after":64.57,"global":false}',
        64.57,
    )

    def judge(self, request: Request, body: Any) -> None:
        if not re.fullmatch(r"/api/webhooks/ID/TOKEN", request.target):
            raise RefusedError(404, '{"message": "Unknown Webhook", "code": 10015}')
        embeds = body.get("embeds", [])
        if not body.get("content") and not embeds:
            raise RefusedError(400, '{"message": "Cannot send an empty message", "code": 50006}')
        total = 0
        for embed in embeds:
            for text, most in (
                (embed.get("title", ""), 256),
                (embed.get("description", ""), 4096),
                (embed.get("author", {}).get("name", ""), 256),
                (embed.get("footer", {}).get("text", ""), 2048),
            ):
                total += size(text)
                if size(text) > most:
                    self._too_long(most)
        if total > 6000:
            self._too_long(6000)
        if size(body.get("content", "")) > 2000:
            self._too_long(2000)

    def _too_long(self, most: int) -> None:
        words = f"Must be {most} or fewer in length."
        raise RefusedError(
            400, json.dumps({"message": "Invalid Form Body", "code": 50035, "errors": words})
        )

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        (embed,) = body["embeds"]
        assert body["allowed_mentions"] == {"parse": []}
        marked = body.get("content", "") + embed.get("title", "") + embed.get("description", "")
        return marked, f"{embed['author']['name']}\n{embed['footer']['text']}"


class Ntfy(Service):
    """Publish as JSON."""

    secrets: ClassVar[dict[str, str]] = {"ntfy.token": "tk_0123456789abcdefghijklmnopqrs"}
    ok = (200, b'{"id":"xE73Iyuabi","event":"message"}')
    limited = (
        ("Content-Type: application/json",),
        b'{"code":42901,"http":429,"error":"limit reached: too many requests"}',
        5,
    )

    def judge(self, request: Request, body: Any) -> None:
        if request.target != "/":
            raise RefusedError(404, '{"code":40401,"http":404,"error":"page not found"}')
        if request.headers.get("authorization") != f"Bearer {self.secrets['ntfy.token']}":
            raise RefusedError(401, '{"code":40101,"http":401,"error":"unauthorized"}')
        wrong = RefusedError(
            400,
            '{"code":40024,"http":400,"error":"invalid request: request body must be valid JSON"}',
        )
        texts = [body["topic"], body.get("title", ""), body.get("message", ""), *body["tags"]]
        if not all(isinstance(text, str) for text in texts):
            raise wrong
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", body["topic"]) or body.get("markdown"):
            raise wrong
        if type(body["priority"]) is not int or not 1 <= body["priority"] <= 5:
            raise wrong
        if len(body["message"].encode()) > 4096:
            raise RefusedError(413, '{"code":41301,"http":413,"error":"attachment too large"}')

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        return "", f"{body['title']}\n{body['message']}"


class Jira(Service):
    """Create issue, v3: texts are ADF."""

    secrets: ClassVar[dict[str, str]] = {"jira.token": "ATATT3xFfGF0"}
    ok = (201, b'{"id":"10000","key":"LAB-1","self":"https://x/rest/api/3/issue/10000"}')
    limited = (
        ("Retry-After: 45", "X-RateLimit-Remaining: 0"),
        b'{"errorMessages":["Rate limit exceeded."]}',
        45,
    )

    def judge(self, request: Request, body: Any) -> None:  # noqa: C901 - rule by rule
        def refuse(field: str, why: str) -> RefusedError:
            return RefusedError(400, json.dumps({"errorMessages": [], "errors": {field: why}}))

        if request.target != "/rest/api/3/issue":
            raise RefusedError(404, "")
        login = base64.b64encode(f"bot@example.com:{self.secrets['jira.token']}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            raise RefusedError(401, "Client must be authenticated to access this resource.")
        fields = body["fields"]
        summary = fields["summary"]
        if "\n" in summary or "\r" in summary:
            raise refuse(
                "summary", "The summary is invalid because it contains newline characters."
            )
        if not 1 <= size(summary) <= 255:
            raise refuse("summary", "Summary can't exceed 255 characters.")
        if not fields["project"]["key"] or not fields["issuetype"]["name"]:
            raise refuse("project", "Specify a valid project ID or key")
        if any(" " in label for label in fields["labels"]):
            raise refuse("labels", "The label contains spaces which is invalid.")
        document = fields["description"]
        if document["type"] != "doc" or document["version"] != 1:
            raise refuse("description", "Operation value must be an Atlassian Document")
        for paragraph in document["content"]:
            for node in paragraph["content"]:
                if set(node) != {"type", "text"} or node["type"] != "text" or not node["text"]:
                    raise refuse("description", "INVALID_INPUT")
        if size(json.dumps(document)) > 32_767:
            raise RefusedError(400, '{"errorMessages":["CONTENT_LIMIT_EXCEEDED"],"errors":{}}')

    def shown(self, body: Any) -> tuple[str, str]:
        """With markup, and without."""
        fields = body["fields"]
        texts = [
            node["text"] for each in fields["description"]["content"] for node in each["content"]
        ]
        return "", "\n".join([fields["summary"], *texts])


SERVICES: dict[str, type[Slack | Teams | PagerDuty | Discord | Ntfy | Jira]] = {
    "Slack": Slack,
    "Microsoft Teams": Teams,
    "PagerDuty": PagerDuty,
    "Discord": Discord,
    "ntfy": Ntfy,
    "Jira": Jira,
}
"""By their headings in docs/notify.md."""
