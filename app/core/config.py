"""The settings: one frozen object, read from the environment and from a `.env` file beside the process.

Every field's description is its documentation: `.env.example` and the README's table are checked against it.
An empty value counts as not set. There is no default secret.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core import rates
from app.core.bots import PiiPolicy, Unsupported
from app.core.rates import Activity, Rate, Subject

LOCAL_EMBEDDING_MODEL: Final = "all-MiniLM-L6-v2"
OPENAI_EMBEDDING_MODEL: Final = "text-embedding-3-small"
EXTRACTIVE_MODEL: Final = "extractive"
OPENAI_BASE_URL: Final = "https://api.openai.com/v1"

_ORIGIN: Final = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
Network = IPv4Network | IPv6Network
PositiveSeconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """All settings of the service; immutable after start."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # --- Server -------------------------------------------------------------------------------------------
    host: str = Field("", description="Address to listen on; empty means every IPv4 and IPv6 address.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    data_dir: Path = Field(
        Path(".data"),
        description="Folder of what is kept on this machine: the embedded PostgreSQL when no database URL is given, and"
        " the original files unless STORAGE_URL is set.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal and json elsewhere."
    )
    shutdown_timeout_seconds: int = Field(
        20, ge=0, le=600, description="How long open requests and streams may go on after SIGTERM."
    )

    # --- Database -----------------------------------------------------------------------------------------
    db_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("DB_URL", "DATABASE_URL"),
        description="postgres:// or postgresql:// URL of PostgreSQL 15+ with pgvector 0.8+ (DATABASE_URL works too);"
        " empty starts the embedded PostgreSQL.",
    )
    db_pool_size: int = Field(
        10,
        ge=1,
        le=500,
        description="Database connections that one process may open for chat, search, ingestion and authentication.",
    )
    db_pool_overflow: int = Field(
        10,
        ge=0,
        le=500,
        description="Connections that it may open beside them for everything else (at least 1).",
    )
    db_connect_timeout_seconds: PositiveSeconds = Field(
        5, description="How long connecting to the database may take before a request answers 503."
    )
    migrate_on_start: bool = Field(
        True,
        description="Whether `ibid serve` migrates the database; set false where a pre-deploy step does it.",
    )

    # --- First run ----------------------------------------------------------------------------------------
    organization_name: str = Field(
        "Default",
        min_length=1,
        max_length=200,
        description="Name of the organization made at the first start.",
    )
    superadmin_email: str = Field(
        "admin@example.com", max_length=320, description="E-mail of the superadmin made at the first start."
    )
    superadmin_password: SecretStr | None = Field(
        None, description="Password of that superadmin; empty generates one and prints it once."
    )

    # --- Accounts -----------------------------------------------------------------------------------------
    secret_key: SecretStr | None = Field(
        None,
        description="Signs access tokens and encrypts stored secrets; 32 characters or more, from `openssl rand -base64"
        " 32`. Several are separated by commas: the first one signs and encrypts, the others still verify and decrypt."
        " Needed with a database URL; the embedded PostgreSQL gets one in DATA_DIR.",
    )
    signup: Literal["open", "invitation", "closed"] = Field(
        "closed",
        description="Who can sign up: open (anybody, into a new organization), invitation (who was invited), or closed"
        " (admins make the accounts).",
    )
    admin_totp_required: bool = Field(
        False, description="Whether admins and superadmins need a second factor before they can do anything."
    )
    access_token_minutes: int = Field(
        15, ge=1, le=1440, description="How long an access token is valid; role and state count at once."
    )
    refresh_token_days: int = Field(
        30, ge=1, le=365, description="How long a login lasts after its last refresh."
    )
    admin_tables: bool = Field(
        False,
        description="Whether superadmins can look into the tables at /admin, with a login of its own; off unless set, since"
        " it shows the data of all organizations.",
    )
    trusted_proxies: str = Field(
        "",
        max_length=10_000,
        description="Addresses and networks of reverse proxies, separated by commas, whose X-Forwarded-For is believed"
        " (for example 10.0.0.0/8); empty believes nobody's.",
    )

    # --- Limits -------------------------------------------------------------------------------------------
    rate_limit_login: str = Field(
        "60/minute per address",
        description="Logins, sign-ups and password resets from one address, right or wrong; `off` for no limit. (Wrong"
        " passwords are limited for themselves: 10 in 15 minutes for an account.)",
    )
    rate_limit_chat: str = Field(
        "60/minute per user, 600/minute per key, 1200/minute per address",
        description="Questions. Rates like 60/minute, 5/10 seconds or 1000/hour, each per user, per API key or per address"
        " (without `per`: for each of the three), separated by commas; `off` for no limit.",
    )
    rate_limit_search: str = Field(
        "300/minute per user, 3000/minute per key, 6000/minute per address",
        description="Searches; written like RATE_LIMIT_CHAT.",
    )
    rate_limit_ingest: str = Field(
        "300/minute per user, 3000/minute per key, 6000/minute per address",
        description="Texts put in; written like RATE_LIMIT_CHAT.",
    )
    rate_limit_shared: str = Field(
        "60/minute per address",
        description="Openings of shared conversations from one address, with right links or wrong ones; `off` for no limit.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis:// or rediss:// URL where the RATE_LIMIT_ settings are counted for all processes together;"
        " empty counts in each process. While Redis is away, each process counts for itself.",
    )
    header_timeout_seconds: PositiveSeconds = Field(
        15, description="How long a client may take to send the head of a request."
    )
    body_timeout_seconds: PositiveSeconds = Field(
        30,
        description="In each such span of a request's body at least 1 kB a second must arrive.",
    )

    # --- Agents -------------------------------------------------------------------------------------------
    mcp: bool = Field(
        True,
        description="Whether agents can connect to /mcp (Model Context Protocol) with an API key; what it needs is loaded at"
        " the first connection.",
    )

    # --- Browsers -----------------------------------------------------------------------------------------
    cors_origins: str = Field(
        "",
        max_length=10_000,
        description="Origins whose pages may call the API from a browser, separated by commas (for example"
        " https://chat.example.com); empty allows none but Ibid's own pages.",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+/?$",
        description="Address by which clients reach the service, for example https://ibid.example.com: one-time links begin with"
        " it; with https,"
        " browsers are told to use nothing else (HSTS). A trusted proxy's X-Forwarded-Proto says the same.",
    )

    # --- Models -------------------------------------------------------------------------------------------
    openai_api_key: SecretStr | None = Field(
        None,
        description="Key of OpenAI or a compatible server; empty means local embeddings and extractive answers.",
    )
    openai_base_url: str = Field(
        OPENAI_BASE_URL,
        pattern=r"^https?://",
        description="Base URL of OpenAI or a compatible server (Azure, vLLM, Ollama, LM Studio, ...).",
    )
    embedding_model: str | None = Field(
        None,
        max_length=200,
        description=f"Embedding model; empty is {OPENAI_EMBEDDING_MODEL} with a key and the local"
        f" {LOCAL_EMBEDDING_MODEL} without.",
    )
    chat_model: str = Field(
        "gpt-4.1-mini",
        min_length=1,
        max_length=200,
        description=f"Chat model; `{EXTRACTIVE_MODEL}` quotes the documents and calls no model, which is also what"
        " happens without a key.",
    )
    chat_context_tokens: int = Field(
        128_000, ge=1024, le=10_000_000, description="Context window of the chat model, in tokens."
    )
    chat_max_answer_tokens: int = Field(
        1024, ge=1, le=128_000, description="Longest answer asked of the chat model, in tokens."
    )
    chat_persona: str = Field(
        "",
        max_length=20_000,
        description="The role and tone of the bot of these settings, in your words. It stays secret.",
    )
    chat_refusal_text: str | None = Field(
        None,
        max_length=2_000,
        description="What it says instead of an answer. Empty: a sentence in the question's language.",
    )
    chat_pii: PiiPolicy = Field(
        PiiPolicy.OFF,
        description="Personal data (mail addresses, phone numbers, cards, accounts, identity numbers, API keys, IP addresses):"
        " `hide_from_provider` sends placeholders to the chat and embedding providers and puts the values back into the"
        " answer; `hide_from_all` also hides from the reader what they have not said themselves.",
    )
    chat_unsupported_citations: Unsupported = Field(
        Unsupported.FLAG,
        description='What becomes of a citation whose source does not say it: `flag` marks the source `"supported": false`,'
        " `drop` removes the citation.",
    )
    chat_temperature: float = Field(0.2, ge=0, le=2, description="Temperature when the request names none.")
    provider_connect_timeout_seconds: PositiveSeconds = Field(
        5, description="How long connecting to the provider may take."
    )
    provider_first_token_timeout_seconds: PositiveSeconds = Field(
        30, description="How long the provider may take until its first token, or between two."
    )
    provider_timeout_seconds: PositiveSeconds = Field(
        120, description="How long one answer of the provider may take altogether."
    )
    provider_max_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="Retries of a provider's 429, 5xx or connection error before the first token.",
    )
    provider_max_retry_wait_seconds: float = Field(
        10, ge=0, le=120, description="Longest wait before such a retry, also when Retry-After asks for more."
    )

    provider_networks: str = Field(
        "",
        max_length=10_000,
        description="Networks of one's own, separated by commas (for example 192.168.1.0/24), in which admins may choose the"
        " model server of a bot, on any port; empty lets them reach the public internet alone. Superadmins are free.",
    )
    provider_breaker_failures: int = Field(
        5,
        ge=0,
        le=1000,
        description="After so many answers in a row that a model's provider failed to give within a minute of each other, it"
        " is not asked for a while: requests get 503 with Retry-After, or the fallback, at once. 0 asks always.",
    )
    provider_breaker_seconds: PositiveSeconds = Field(
        30, description="How long that is, before one request tries whether the provider is back."
    )
    chat_fallback_model: str | None = Field(
        None,
        max_length=200,
        description="Another model of the same provider, asked when CHAT_MODEL fails before its first token.",
    )
    chat_fallback_extractive: bool = Field(
        False,
        description="Whether sentences of the documents answer, as in the mode without a model, when no model does.",
    )

    # --- Documents ----------------------------------------------------------------------------------------
    chunk_size_tokens: int = Field(
        200,
        ge=16,
        le=8000,
        description="Longest chunk, in tokens of about four letters in any language; never more than the embedding model reads.",
    )
    chunk_overlap_tokens: int = Field(
        20, ge=0, le=4000, description="Tokens that a chunk repeats from the one before it."
    )
    ingest_max_text_bytes: int = Field(
        5_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Largest text that POST /ingest accepts, in bytes of UTF-8.",
    )
    text_search_language: str = Field(
        "auto",
        pattern=r"^[a-z_]{1,63}$",
        description="Language of new documents and of questions, whose word stems the full text search compares: `auto`"
        " detects it, a name or code (`english`, `ms`) takes all texts to be in it, `simple` compares whole words.",
    )

    max_upload_bytes: int = Field(
        250_000_000,
        ge=1000,
        le=1_073_741_824,
        description="Largest file that POST /documents accepts, in bytes; at most 1 GiB.",
    )
    storage_url: str | None = Field(
        None,
        max_length=1000,
        description="Where original files are kept: s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix"
        " (with the credentials that the cloud's own tools read), file:///folder, or `database`; empty is a folder in"
        " DATA_DIR, which serves one machine (the database where that folder is lost with each deploy, as on Railway without"
        " a volume).",
    )
    keep_original_files: bool = Field(
        True,
        description="Whether a file is kept after its text has been read; without it a document can be chunked anew but"
        " not downloaded or read again.",
    )

    # --- Processing ---------------------------------------------------------------------------------------
    worker_concurrency: int = Field(
        3,
        ge=0,
        le=64,
        description="Documents that one process works on at a time; 0 leaves it to others (`ibid worker`).",
    )
    analysis_processes: int = Field(
        2,
        ge=0,
        le=64,
        description="Processes that cut and analyse long texts, or many at a time, beside this one (100 MB each, started when"
        " there is such work and ended two minutes after it); 0 leaves that to threads.",
    )
    job_lease_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="How long a document waits for a worker that died before another one takes it.",
    )
    job_max_crashes: int = Field(
        5, ge=1, le=100, description="After so many starts that killed their worker a document has failed."
    )
    job_max_retries: int = Field(
        8,
        ge=0,
        le=100,
        description="How often what may pass (a provider that is away) is tried again, after 5 s and then longer, before"
        " a document has failed.",
    )

    index_keep_seconds: float = Field(
        60,
        ge=2,
        le=3600,
        description="How long the index that was served before is kept after a rebuild's switch, for questions that began"
        " before it and processes that have not noticed it yet.",
    )

    parse_memory_bytes: int = Field(
        1_610_612_736,
        ge=268_435_456,
        le=68_719_476_736,
        description="Memory (address space) that reading one file may take.",
    )
    parse_cpu_seconds: float = Field(
        18, ge=1, le=86_400, description="Processor time that reading one file may take; 2 s more a megabyte."
    )
    parse_seconds: float = Field(
        24, ge=1, le=86_400, description="How long reading one file may take; 2 s more a megabyte."
    )
    parse_max_pages: int = Field(
        20_000, ge=1, le=1_000_000, description="Most pages (slides, sheets, parts) of one file."
    )
    parse_max_characters: int = Field(
        100_000_000, ge=1000, le=1_000_000_000, description="Most characters of text of one file."
    )
    ocr_seconds: float = Field(
        900,
        ge=0,
        le=86_400,
        description="How long OCR of one file may take in all; 0 leaves pictures unread.",
    )
    ocr_languages: str = Field(
        "",
        pattern=r"^[A-Za-z_]{2,30}(\+[A-Za-z_]{2,30}){0,9}$|^$",
        description="Languages of scanned texts as Tesseract names them, for example eng+msa+chi_sim; empty takes those that are"
        " installed, four at most.",
    )
    fetch_networks: str = Field(
        "",
        max_length=10_000,
        description="Networks that are not public and that pages may be fetched from all the same (`url` of POST /ingest), separated"
        " by commas, for example 10.20.0.0/16 for an intranet; empty allows none. Whoever may ingest can then read what is there.",
    )

    # --- Retrieval and chat -------------------------------------------------------------------------------
    top_k_default: int = Field(
        5, ge=1, le=50, description="Sources given to an answer when the request names none."
    )
    min_relevance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Relevance (0 to 1) that the best passage must reach, or the question is refused without calling"
        " a model: the mean of its cosine and of the share of the question's words that it has. Empty uses the value"
        " measured for the embedding model and the question's language; `ibid eval --calibrate` finds your own.",
    )
    reranker_folder: Path | None = Field(
        None,
        description="Folder with model.onnx and tokenizer.json of a cross-encoder, which bots may have put their passages in"
        " order; empty for none.",
    )
    max_history_messages: int = Field(
        10, ge=0, le=200, description="Earlier messages of a session that a turn may read."
    )
    max_history_tokens: int = Field(
        3000, ge=0, le=1_000_000, description="Token budget of those messages; the oldest go first."
    )
    chat_titles: Literal["off", "people", "all"] = Field(
        "people",
        description="Whose new sessions get a title by the chat model after the first answer, in a small call of its own:"
        " those of people who have logged in, all (also those of API keys), or none; until then, and without a model, a"
        " session is called after its first question.",
    )
    chat_file_wait_seconds: float = Field(
        10,
        ge=0,
        le=120,
        description="How long an answer waits for a file of its session that is still being read, before it goes on"
        " without.",
    )
    search_by_words: bool = Field(
        True,
        description="Whether questions are searched by their words alone while the embedding provider can't be reached or"
        " does not answer; who asked is told so. False answers with the provider's failure.",
    )
    session_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Sessions that were not used for so many days are deleted with their messages, links and files; 0 keeps"
        " them.",
    )
    usage_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Calls of models that are older than so many days go from the ledger that GET /usage reads, a whole day (UTC)"
        " at a time; 0 keeps them. The last 32 days stay in any case, since budgets of a month are counted from them.",
    )
    share_links: bool = Field(
        True,
        description="Whether people can share a conversation of theirs by a link that opens without an account; false also"
        " closes the links that there are.",
    )
    chat_busy_wait_seconds: float = Field(
        0,
        ge=0,
        le=120,
        description="How long a question waits for the turn of its session that is still being answered; 0 answers 409 at"
        " once.",
    )
    chat_resume_seconds: float = Field(
        20,
        ge=0,
        le=600,
        description="How long an answer goes on after the connection of its stream broke, so that the client can come back"
        " for the rest; then the provider is stopped and what there is kept. 0 stops it at once.",
    )
    exact_search_max_values: int = Field(
        7_680_000,
        ge=0,
        description="Scopes with at most this many stored numbers (chunks times dimensions: 20,000 chunks of 384) are"
        " searched exactly, larger ones by the HNSW index of their organization.",
    )
    index_build_memory_mb: int = Field(
        256,
        ge=16,
        le=65_536,
        description="Memory of the database server for building the HNSW index of an organization (`maintenance_work_mem`, in MB)."
        " 100,000 chunks of 384 dimensions want 150; with less the build takes several times as long.",
    )

    @field_validator("openai_base_url")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("trusted_proxies", "fetch_networks", "provider_networks")
    @classmethod
    def _of_networks(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator(
        "rate_limit_login", "rate_limit_chat", "rate_limit_search", "rate_limit_ingest", "rate_limit_shared"
    )
    @classmethod
    def _is_of_rates(cls, value: str, info: ValidationInfo) -> str:
        _rates(str(info.field_name).removeprefix("rate_limit_"), value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _of_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(
            ("redis://", "rediss://", "unix://")
        ):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _of_origins(cls, value: str) -> str:
        for origin in _parts(value):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no exact origin like https://chat.example.com")
        return value

    @cached_property
    def rates(self) -> Mapping[Activity, tuple[Rate, ...]]:
        """The rates of each activity."""
        return {activity: _rates(activity, getattr(self, f"rate_limit_{activity}")) for activity in Activity}

    @cached_property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`."""
        return tuple(_parts(self.cors_origins))

    @property
    def is_https(self) -> bool:
        """Whether clients are known to come by https."""
        return self.public_url is not None and self.public_url.startswith("https:")

    @cached_property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of `trusted_proxies`."""
        return _networks(self.trusted_proxies)

    @cached_property
    def reachable_networks(self) -> tuple[Network, ...]:
        """The networks of `fetch_networks`."""
        return _networks(self.fetch_networks)

    @property
    def allowed_provider_networks(self) -> tuple[Network, ...]:
        """The networks of `provider_networks`."""
        return _networks(self.provider_networks)

    @property
    def has_provider(self) -> bool:
        """Whether a chat model can be called at all."""
        return self.openai_api_key is not None

    @property
    def uses_local_embeddings(self) -> bool:
        """Local when asked for by name, and whenever there is no key for a remote model."""
        return self.openai_api_key is None or self.embedding_model in (LOCAL_EMBEDDING_MODEL, "local")

    @property
    def answers_extractively(self) -> bool:
        return not self.has_provider or self.chat_model == EXTRACTIVE_MODEL

    @property
    def longest_turn_seconds(self) -> float:
        """After this long without an end, a turn's process must have died: nothing in a turn may wait longer."""
        models = 3 if self.chat_fallback_model else 2
        waits = self.chat_resume_seconds + self.chat_file_wait_seconds
        return models * self.provider_timeout_seconds + waits + 30


def _rates(activity: str, text: str) -> tuple[Rate, ...]:
    by_address = activity in (Activity.LOGIN, Activity.SHARED)
    subjects = (Subject.ADDRESS,) if by_address else tuple(Subject)
    return rates.rates(text, name=activity, subjects=subjects)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part, strict=False) for part in _parts(text))
