"""Report on jobs, learn of their end. These names are public; the rest may change."""

from jobcast.client import Client
from jobcast.errors import BadSetting, JobcastError
from jobcast.job import Job, JobError, Resource, Status
from jobcast.notification import Command
from jobcast.outbox import InvalidEvent
from jobcast.problems import (
    Forbidden,
    JobGone,
    JobNotFound,
    Rejected,
    ServiceError,
    Unauthorized,
    Unavailable,
)
from jobcast.report import JobReport
from jobcast.reporter import Reporter, Undelivered
from jobcast.watch import Change, Patience

__all__ = [
    "BadSetting",
    "Change",
    "Client",
    "Command",
    "Forbidden",
    "InvalidEvent",
    "Job",
    "JobError",
    "JobGone",
    "JobNotFound",
    "JobReport",
    "JobcastError",
    "Patience",
    "Rejected",
    "Reporter",
    "Resource",
    "ServiceError",
    "Status",
    "Unauthorized",
    "Unavailable",
    "Undelivered",
]
