"""Report on jobs, learn of their end. These names are public; the rest may change."""

from jobcast.change import Record
from jobcast.client import Client
from jobcast.control import Records
from jobcast.errors import BadSetting, JobcastError
from jobcast.job import Job, JobError, Resource, Status
from jobcast.notification import Command, Notification, oldest_cursor
from jobcast.outbox import InvalidEvent
from jobcast.problems import (
    AlreadyEnded,
    CancelPending,
    Conflict,
    Forbidden,
    JobGone,
    JobNotFound,
    NotCancelable,
    NotEnded,
    Rejected,
    ServiceError,
    TooManyRecords,
    Unauthorized,
    Unavailable,
)
from jobcast.report import JobReport
from jobcast.reporter import Reporter, Undelivered
from jobcast.subscription import Subscription
from jobcast.watch import Change, Patience

__all__ = [
    "AlreadyEnded",
    "BadSetting",
    "CancelPending",
    "Change",
    "Client",
    "Command",
    "Conflict",
    "Forbidden",
    "InvalidEvent",
    "Job",
    "JobError",
    "JobGone",
    "JobNotFound",
    "JobReport",
    "JobcastError",
    "NotCancelable",
    "NotEnded",
    "Notification",
    "Patience",
    "Record",
    "Records",
    "Rejected",
    "Reporter",
    "Resource",
    "ServiceError",
    "Status",
    "Subscription",
    "TooManyRecords",
    "Unauthorized",
    "Unavailable",
    "Undelivered",
    "oldest_cursor",
]
