"""Models on other machines: any server that speaks OpenAI's API, as a policy and as a value."""
