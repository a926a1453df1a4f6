"""Executors and subscribers that know nothing of our SDK: pika, a blocking AMQP library."""

import asyncio
import json
import time
import uuid
from typing import Any

import httpx
import pika

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from tests.logins import Login


def report(channel: Any, owner: str, job_id: str, type_: str, data: dict[str, Any]) -> None:
    """One lifecycle event in binary mode, as a foreign CloudEvents library would send it."""
    channel.basic_publish(
        exchange="job.lifecycle",
        routing_key="copy.event",
        body=json.dumps(data),
        mandatory=True,
        properties=pika.BasicProperties(
            content_type="application/json",
            correlation_id=job_id,
            delivery_mode=2,
            headers={
                "cloudEvents_specversion": "1.0",
                "cloudEvents_id": uuid.uuid4().hex,
                "cloudEvents_source": "/foreign/pika",
                "cloudEvents_type": type_,
                "cloudEvents_subject": job_id,
                "cloudEvents_owner": owner,
            },
        ),
    )


def converse(url: str, owner: str, job_id: str) -> list[tuple[Any, dict[str, Any]]]:
    """Report a job, and hear of it: what a durable subscription got, with its properties."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    queue = f"sub.{owner}.pika.completions"
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, "job.events", f"{owner}.#")
    report(channel, owner, job_id, "job.queued", {"operation": "copy", "group": "nightly"})
    report(channel, owner, job_id, "job.started", {})
    report(channel, owner, job_id, "job.progressed", {"targets": {"vol1": 50, "vol2": 100}})
    report(channel, owner, job_id, "job.failed", {"reason_code": 28, "message": "disk full"})
    heard: list[tuple[Any, dict[str, Any]]] = []
    deadline = time.monotonic() + 20
    while len(heard) < 3 and time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            time.sleep(0.02)
        else:
            heard.append((properties, json.loads(body)))
    channel.queue_delete(queue)
    connection.close()
    return heard


async def test_pika_reports_a_job_and_hears_of_it(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login
) -> None:
    job_id = str(uuid.uuid4())
    heard = await asyncio.to_thread(converse, rabbitmq.url, subscriber.name, job_id)
    events = [properties.headers["event"] for properties, _ in heard]
    assert events == ["queued", "started", "failed"]
    properties, body = heard[-1]
    version = body["data"]["version"]
    assert properties.message_id == body["id"] == f"{subscriber.name}/{job_id}/{version}"
    assert properties.correlation_id == body["subject"] == job_id
    assert properties.type == body["type"] == "job.failed"
    assert properties.content_type == "application/cloudevents+json"
    assert (properties.delivery_mode, properties.priority) == (2, 4)
    assert properties.app_id == "jobcast"
    assert properties.headers["job_group"] == "nightly"
    assert properties.headers["reason_code"] == 28
    assert body["data"]["percent"] == 75
    assert body["data"]["error"] == {"code": "error", "message": "disk full"}
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=subscriber.headers) as http:
        answer = (await http.get(f"/v1/jobs/{job_id}")).json()
    answer.pop("links")
    assert answer == body["data"]
