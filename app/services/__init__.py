"""The business rules: modules of async functions over plain values. Knows no HTTP, no SQL and no LlamaIndex."""
