"""Teachers: embedding models behind one call, texts -> unit vectors."""

from typing import Annotated

from pydantic import Field

from sdg.teachers.base import Encoder, Teacher
from sdg.teachers.lexical import LexicalTeacher

AnyTeacher = Annotated[LexicalTeacher, Field()]

__all__ = ["AnyTeacher", "Encoder", "LexicalTeacher", "Teacher"]
