"""Every node and every completion of a search as a span of OpenTelemetry, on the console."""

from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from rlm_agent import create_mcts

provider = TracerProvider()
provider.add_span_processor(
    SimpleSpanProcessor(
        ConsoleSpanExporter(
            formatter=lambda span: (
                f"{span.name}: {(span.attributes or {}).get('llm.token_count.completion', '')}\n"
            )
        )
    )
)
LangChainInstrumentor().instrument(tracer_provider=provider)

print(create_mcts("mini", seed=1).invoke({"messages": [("user", "4 9 10 13 : 24")]})["answer"])
