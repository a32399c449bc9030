"""Reasoners behind OpenAI's HTTP interface, so that any client of it gets them by a base URL.

    guard (keys, sizes, metrics) → routes (chat, responses, models) → desk (admission, cancellation) → search

The extra `serve` brings what this package needs; `application.create_app` is the entrance.
"""
