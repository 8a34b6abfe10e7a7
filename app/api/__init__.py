"""HTTP: routes, schemas, errors and streams. Translates and calls one service; knows no SQL and no LlamaIndex."""
