"""Replies kept by content: nothing that a model has said is asked for, or paid for, twice.

    <folder>/journal/<id>.jsonl       replies as they come, one file a worker; see journal.py
    <folder>/segments/<id>.parquet    replies of finished journals, in the order they came
    <folder>/segments/<id>.arrow      where each one is, by its call's content id; see segments.py
    <folder>/lock                     held by whoever moves journals into segments or removes some

All runs share the folder, also at the same time.
"""

from sdg.kept.record import KeptReply, content_ids, storable
from sdg.kept.session import ReusingSession
from sdg.kept.store import RepliesConfig, ReplyStore, tidied

__all__ = [
    "KeptReply",
    "RepliesConfig",
    "ReplyStore",
    "ReusingSession",
    "content_ids",
    "storable",
    "tidied",
]
