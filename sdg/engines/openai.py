"""Any endpoint that speaks the OpenAI protocol: vllm serve, Ollama, llama.cpp, hosted ones.

    OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... \
        make generate LANG=sw ENGINE=openai MODEL=<model>

The key comes from the environment alone and is in no setting, log, message or output. A row that
the endpoint refuses is a row's error; what no row can succeed with stops the run with one line, and
so does an endpoint that is down, or refuses all for its rate limit, for longer than one would wait.
Until then nothing is lost: a row is given up only while the endpoint answers others.
"""

from collections.abc import Sequence

from sdg.engines.base import Session
from sdg.engines.openai_settings import OpenAISettings
from sdg.prompting import Prompt


class OpenAIEngine(OpenAISettings):
    """An endpoint and how to ask it. `base_url` "" is $OPENAI_BASE_URL, or else OpenAI's own.

    OpenAI's SDK takes .7 s to import, so what needs it is imported when a run needs it.
    """

    def check(self, prompts: Sequence[Prompt], lang: str) -> None:
        from sdg.engines.endpoint import check_model

        check_model(*self.endpoint(), self.model, self.max_tokens_field)

    def open(self) -> Session:
        from sdg.engines.openai_session import OpenAISession

        return OpenAISession(self)
