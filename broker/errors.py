"""The two ways in which the broker lets a caller down; every AMQP exception becomes one of them."""

from jobcast.errors import JobcastError


class BrokerUnavailable(JobcastError):
    """RabbitMQ cannot be reached, or the connection broke before the answer. Try again later."""


class Refused(JobcastError):
    """RabbitMQ will not take the message (returned as unroutable, or nacked)."""


class TopologyMismatch(JobcastError):
    """A queue or exchange has other arguments, or a plugin is missing. An operator's task."""
