"""Teachers: embedding models behind one call, texts -> unit vectors."""

from typing import Annotated

from pydantic import Field

from sdg.teachers.base import Encoder, Teacher
from sdg.teachers.lexical import LexicalTeacher
from sdg.teachers.pooling import PoolingTeacher
from sdg.teachers.relabel import Judge, Relabel
from sdg.teachers.sentence import SentenceTransformersTeacher

AnyTeacher = Annotated[
    LexicalTeacher | SentenceTransformersTeacher | PoolingTeacher, Field(discriminator="name")
]

__all__ = [
    "AnyTeacher",
    "Encoder",
    "Judge",
    "LexicalTeacher",
    "PoolingTeacher",
    "Relabel",
    "SentenceTransformersTeacher",
    "Teacher",
]
