-- The schema that sql/migrations/ makes, told by pg_dump. Do not edit: `python -m tests.store.schema` writes it.
-- Of the 32 partitions of `nonces` the first stands for all.

CREATE FUNCTION public.empty_nonce_slot(slot integer) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
declare
    patience text := set_config('lock_timeout', '50ms', true);
begin
    if exists (select from nonce_floor where (slot - floor / 60 % 32 + 32) % 32 < 24) then
        return false;
    end if;
    execute format('truncate nonces_%s', slot);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;

CREATE FUNCTION public.end_sign_ins() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO '$user', 'public'
    AS $$
begin
    update codes set expires_at = least(expires_at, now()) - interval '1 microsecond'
    where session_id = old.session_id and spent_at is null
        and 'openid' = any (scopes) and not 'offline_access' = any (scopes);
    insert into logouts (logout_id, client_id, subject, session_id, ended_at, due_at)
    select 'l' || replace(gen_random_uuid()::text, '-', ''), c.client_id, old.subject, old.session_id, now(), now()
    from clients c
    where c.openid ? 'backchannel_logout_uri' and c.disabled_at is null
        and c.client_id in (
            select g.client_id from families f join grants g on g.grant_id = f.grant_id
            where f.session_id = old.session_id and 'openid' = any (f.scopes)
        )
    on conflict (client_id, session_id) do nothing;
    update families set revoked_at = now()
    where session_id = old.session_id and revoked_at is null
        and 'openid' = any (scopes) and not 'offline_access' = any (scopes);
    return null;
end
$$;

CREATE FUNCTION public.note_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO '$user', 'public'
    SET lock_timeout TO '1500ms'
    AS $$
declare
    changed text := '';
begin
    case tg_argv[0]
        when 'token' then changed := encode(old.digest, 'hex');
        when 'family' then changed := old.family_id;
        when 'grant' then changed := old.grant_id;
        when 'client' then changed := old.client_id;
        when 'user' then changed := old.subject;
        when 'all' then null;
    end case;
    perform pg_advisory_xact_lock(1667788398);
    insert into changes (kind, key) values (tg_argv[0], changed);
    perform pg_notify('gateway_changes', '');
    return null;
end
$$;

CREATE FUNCTION public.prove_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    number bytea := substr(new.proof, 1, 16);
    key bytea := substr(new.proof, 17);
begin
    if new.at > clock_timestamp() + interval '1 minute' then -- by a clock that is ahead
        new.at := clock_timestamp();
    end if;
    new.proof := '\x01' || number || sha256(key || sha256(key || convert_to(jsonb_build_array(
        new.event_id, extract(epoch from new.at)::text, new.kind, new.subject, new.client_id,
        new.request_id, new.address, new.actor, new.detail::text)::text, 'UTF8')));
    return new;
end
$$;

CREATE FUNCTION public.spend_nonces(keys bytea[], seconds bigint[], known_floor bigint, known_timeline text) RETURNS bytea[]
    LANGUAGE plpgsql
    AS $$
declare
    spent bytea[]; -- null stands for all
    written integer;
    durable text := set_config('synchronous_commit', 'on', true);
begin
    if cardinality(keys) = 1 then -- without the subtransaction that undoing takes
        insert into nonces (slot, key) values (seconds[1] / 60 % 32, keys[1]) on conflict do nothing;
        get diagnostics written = row_count;
        if written = 0 then
            spent := '{}';
        end if;
    else
        begin
            insert into nonces (slot, key)
            select second / 60 % 32, given.key from unnest(keys, seconds) as given (key, second) order by given.key;
        exception when unique_violation then
            with first as (
                insert into nonces (slot, key)
                select second / 60 % 32, given.key from unnest(keys, seconds) as given (key, second) order by given.key
                on conflict do nothing
                returning key
            )
            select coalesce(array_agg(key), '{}') into spent from first;
        end;
    end if;
    if exists (select from nonce_floor where floor = known_floor and timeline = known_timeline)
        and left(pg_walfile_name(pg_current_wal_lsn()), 8) = known_timeline
    then
        return spent;
    end if;
    return array_append(coalesce(spent, keys), null);
end
$$;

CREATE FUNCTION public.spend_token_nonces(keys bytea[], expiries timestamp with time zone[]) RETURNS bytea[]
    LANGUAGE plpgsql
    AS $$
declare
    spent bytea[];
    durable text := set_config('synchronous_commit', 'on', true);
begin
    with first as (
        insert into token_nonces (key, expires_at)
        select given.key, expiry from unnest(keys, expiries) as given (key, expiry) order by given.key
        on conflict do nothing
        returning key
    )
    select coalesce(array_agg(key), '{}') into spent from first;
    return spent;
end
$$;

CREATE TABLE public.access_tokens (
    digest bytea NOT NULL,
    client_id text NOT NULL,
    subject text,
    family_id text,
    client_generation integer NOT NULL,
    user_generation integer,
    scopes text[] NOT NULL,
    resource text[] NOT NULL,
    token_type text NOT NULL,
    mac_key bytea,
    mac_algorithm text,
    jkt text,
    issued_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT access_tokens_mac_check CHECK ((((token_type = 'mac'::text) = (mac_key IS NOT NULL)) AND ((mac_key IS NULL) = (mac_algorithm IS NULL)))),
    CONSTRAINT access_tokens_subject_check CHECK (((subject IS NULL) = (user_generation IS NULL)))
);

CREATE TABLE public.clients (
    client_id text NOT NULL,
    name text NOT NULL,
    description text,
    owner text,
    homepage text,
    privacy text,
    terms text,
    confidential boolean NOT NULL,
    jwks jsonb,
    redirect_uris text[] NOT NULL,
    grant_types text[] NOT NULL,
    scopes text[] NOT NULL,
    default_scopes text[],
    allow_groups text[] DEFAULT '{}'::text[] NOT NULL,
    token_type text NOT NULL,
    token_format text DEFAULT 'opaque'::text NOT NULL,
    mac_drafts text[] NOT NULL,
    mac_algorithm text NOT NULL,
    pkce_required boolean NOT NULL,
    par_required boolean DEFAULT false NOT NULL,
    dpop_required boolean DEFAULT false NOT NULL,
    openid jsonb DEFAULT '{}'::jsonb NOT NULL,
    first_party boolean NOT NULL,
    verified boolean NOT NULL,
    decided text[] DEFAULT '{}'::text[] NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    disabled_at timestamp with time zone,
    CONSTRAINT clients_description_check CHECK ((description <> ''::text)),
    CONSTRAINT clients_first_party_check CHECK ((confidential OR (NOT first_party))),
    CONSTRAINT clients_jwks_check CHECK (((jwks IS NULL) OR confidential)),
    CONSTRAINT clients_name_check CHECK ((name <> ''::text)),
    CONSTRAINT clients_pkce_check CHECK ((confidential OR pkce_required)),
    CONSTRAINT clients_token_format_check CHECK ((token_format = ANY (ARRAY['opaque'::text, 'jwt'::text]))),
    CONSTRAINT clients_token_type_check CHECK ((token_type = ANY (ARRAY['bearer'::text, 'mac'::text])))
);

CREATE TABLE public.families (
    family_id text NOT NULL,
    grant_id text NOT NULL,
    scopes text[] NOT NULL,
    resource text[] NOT NULL,
    id_token_claims text[] DEFAULT '{}'::text[] NOT NULL,
    userinfo_claims text[] DEFAULT '{}'::text[] NOT NULL,
    client_generation integer NOT NULL,
    user_generation integer NOT NULL,
    session_id text,
    auth_time timestamp with time zone,
    acr text DEFAULT 'password'::text NOT NULL,
    jkt text,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone
);

CREATE TABLE public.grants (
    grant_id text NOT NULL,
    subject text NOT NULL,
    client_id text NOT NULL,
    scopes text[] NOT NULL,
    resource text[] NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
);

CREATE TABLE public.users (
    subject text NOT NULL,
    username text NOT NULL,
    email text,
    name text,
    password_hash text NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    session_generation integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    disabled_at timestamp with time zone,
    email_verified boolean DEFAULT false NOT NULL,
    claims jsonb DEFAULT '{}'::jsonb NOT NULL,
    groups text[] DEFAULT '{}'::text[] NOT NULL,
    updated_at timestamp with time zone,
    CONSTRAINT users_claims_check CHECK ((jsonb_typeof(claims) = 'object'::text)),
    CONSTRAINT users_email_check CHECK ((email ~ '^[^@[:space:]]+@[^@[:space:]]+$'::text)),
    CONSTRAINT users_email_verified_check CHECK (((email IS NOT NULL) OR (NOT email_verified))),
    CONSTRAINT users_password_hash_check CHECK ((password_hash ~~ '$argon2id$%'::text)),
    CONSTRAINT users_username_check CHECK ((username ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'::text))
);

CREATE VIEW public.access_token_ends AS
 SELECT t.digest,
    t.client_id,
    t.subject,
    u.username,
    u.email,
    u.groups,
    t.family_id,
    f.grant_id,
    t.scopes,
    t.resource,
    t.token_type,
    t.mac_key,
    t.mac_algorithm,
    t.jkt,
    t.issued_at,
    t.expires_at,
    c.mac_drafts,
    f.auth_time,
        CASE
            WHEN (f.auth_time IS NOT NULL) THEN f.acr
            ELSE NULL::text
        END AS acr,
        CASE
            WHEN (t.revoked_at IS NOT NULL) THEN 'revoked'::text
            WHEN (c.client_id IS NULL) THEN 'of a deleted client'::text
            WHEN (c.disabled_at IS NOT NULL) THEN 'of a disabled client'::text
            WHEN ((t.subject IS NOT NULL) AND (u.subject IS NULL)) THEN 'of a deleted user'::text
            WHEN ((t.subject IS NOT NULL) AND (u.disabled_at IS NOT NULL)) THEN 'of a disabled user'::text
            WHEN ((c.generation <> t.client_generation) OR ((t.subject IS NOT NULL) AND (u.generation <> t.user_generation)) OR ((t.family_id IS NOT NULL) AND COALESCE(((f.revoked_at IS NOT NULL) OR (g.revoked_at IS NOT NULL) OR (NOT (f.scopes <@ g.scopes))), true))) THEN 'revoked'::text
            WHEN ((t.subject IS NOT NULL) AND (c.allow_groups <> '{}'::text[]) AND (NOT (c.allow_groups && u.groups))) THEN 'of a user who may not use the client'::text
            ELSE NULL::text
        END AS ended
   FROM ((((public.access_tokens t
     LEFT JOIN public.clients c ON ((c.client_id = t.client_id)))
     LEFT JOIN public.users u ON ((u.subject = t.subject)))
     LEFT JOIN public.families f ON ((f.family_id = t.family_id)))
     LEFT JOIN public.grants g ON ((g.grant_id = f.grant_id)));

CREATE TABLE public.changes (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    kind text NOT NULL,
    key text NOT NULL
);

ALTER TABLE public.changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.client_logos (
    client_id text NOT NULL,
    name text NOT NULL,
    content bytea NOT NULL
);

CREATE TABLE public.client_secrets (
    digest bytea NOT NULL,
    client_id text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone
);

CREATE TABLE public.codes (
    digest bytea NOT NULL,
    grant_id text NOT NULL,
    request jsonb NOT NULL,
    scopes text[] NOT NULL,
    client_generation integer NOT NULL,
    user_generation integer NOT NULL,
    session_id text,
    auth_time timestamp with time zone,
    acr text DEFAULT 'password'::text NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    spent_at timestamp with time zone,
    family_id text,
    CONSTRAINT codes_spent_check CHECK (((spent_at IS NULL) = (family_id IS NULL)))
);

CREATE TABLE public.device_codes (
    digest bytea NOT NULL,
    user_code bytea NOT NULL,
    client_id text NOT NULL,
    scopes text[] NOT NULL,
    resource text[] NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    pace integer NOT NULL,
    polled_at timestamp with time zone,
    decision text,
    subject text,
    CONSTRAINT device_codes_decision_check CHECK ((decision = ANY (ARRAY['granted'::text, 'denied'::text]))),
    CONSTRAINT device_codes_subject_check CHECK (((decision IS NULL) = (subject IS NULL)))
);

CREATE TABLE public.event_chain (
    singleton boolean DEFAULT true NOT NULL,
    sealed_key bytea,
    seq bigint DEFAULT 0 NOT NULL,
    link bytea DEFAULT '\x'::bytea NOT NULL,
    base_seq bigint DEFAULT 0 NOT NULL,
    base_link bytea DEFAULT '\x'::bytea NOT NULL,
    mac bytea,
    CONSTRAINT event_chain_singleton_check CHECK (singleton)
);

CREATE TABLE public.events (
    event_id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    subject text,
    client_id text,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    request_id text,
    address text,
    actor text,
    seq bigint,
    proof bytea
);

ALTER TABLE public.events ALTER COLUMN event_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.events_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.failed_attempts (
    account bytea NOT NULL,
    browser bytea NOT NULL,
    failures integer NOT NULL,
    last_failed_at timestamp with time zone NOT NULL
);

CREATE VIEW public.family_ends AS
 SELECT f.family_id,
    f.scopes,
    f.resource,
    f.expires_at,
    g.client_id,
    g.subject,
    u.username,
        CASE
            WHEN (c.client_id IS NULL) THEN 'of a deleted client'::text
            WHEN (c.disabled_at IS NOT NULL) THEN 'of a disabled client'::text
            WHEN (u.subject IS NULL) THEN 'of a deleted user'::text
            WHEN (u.disabled_at IS NOT NULL) THEN 'of a disabled user'::text
            WHEN ((f.revoked_at IS NOT NULL) OR (g.revoked_at IS NOT NULL) OR (NOT (f.scopes <@ g.scopes)) OR (c.generation <> f.client_generation) OR (u.generation <> f.user_generation)) THEN 'revoked'::text
            WHEN ((c.allow_groups <> '{}'::text[]) AND (NOT (c.allow_groups && u.groups))) THEN 'of a user who may not use the client'::text
            ELSE NULL::text
        END AS ended
   FROM (((public.families f
     JOIN public.grants g ON ((g.grant_id = f.grant_id)))
     LEFT JOIN public.clients c ON ((c.client_id = g.client_id)))
     LEFT JOIN public.users u ON ((u.subject = g.subject)));

CREATE TABLE public.flows (
    flow_id text NOT NULL,
    subject text NOT NULL,
    client_id text NOT NULL,
    request jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    decision text,
    allowed text[],
    code_digest bytea,
    sealed_code bytea,
    CONSTRAINT flows_allowed_check CHECK (((NOT (decision IS DISTINCT FROM 'granted'::text)) = (allowed IS NOT NULL))),
    CONSTRAINT flows_decision_check CHECK ((decision = ANY (ARRAY['granted'::text, 'denied'::text])))
);

CREATE VIEW public.living_access_tokens AS
 SELECT digest,
    client_id,
    subject,
    username,
    email,
    groups,
    family_id,
    grant_id,
    scopes,
    resource,
    token_type,
    mac_key,
    mac_algorithm,
    jkt,
    issued_at,
    expires_at,
    mac_drafts,
    auth_time,
    acr
   FROM public.access_token_ends
  WHERE (ended IS NULL);

CREATE VIEW public.living_families AS
 SELECT family_id,
    scopes,
    resource,
    expires_at,
    client_id,
    subject,
    username
   FROM public.family_ends
  WHERE (ended IS NULL);

CREATE TABLE public.sessions (
    session_id text NOT NULL,
    token_digest bytea NOT NULL,
    subject text NOT NULL,
    generation integer NOT NULL,
    signed_in_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    address text,
    user_agent text,
    acr text DEFAULT 'password'::text NOT NULL
);

CREATE VIEW public.living_sessions AS
 SELECT s.session_id,
    s.token_digest,
    s.signed_in_at,
    s.acr,
    s.expires_at,
    u.subject,
    u.username,
    u.email,
    u.name,
    u.groups,
    u.created_at,
    u.disabled_at,
    u.generation AS user_generation
   FROM (public.sessions s
     JOIN public.users u ON ((u.subject = s.subject)))
  WHERE ((u.disabled_at IS NULL) AND (u.session_generation = s.generation));

CREATE TABLE public.logouts (
    logout_id text NOT NULL,
    client_id text NOT NULL,
    subject text NOT NULL,
    session_id text NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.nonce_database (
    singleton boolean DEFAULT true NOT NULL,
    name text DEFAULT (gen_random_uuid())::text NOT NULL,
    CONSTRAINT nonce_database_singleton_check CHECK (singleton)
);

CREATE TABLE public.nonce_floor (
    singleton boolean DEFAULT true NOT NULL,
    floor bigint NOT NULL,
    timeline text NOT NULL,
    CONSTRAINT nonce_floor_singleton_check CHECK (singleton)
);

CREATE TABLE public.nonce_layouts (
    from_second bigint NOT NULL,
    databases text[] NOT NULL,
    CONSTRAINT nonce_layouts_databases_check CHECK ((cardinality(databases) > 0))
);

CREATE TABLE public.nonces (
    slot smallint NOT NULL,
    key bytea NOT NULL
)
PARTITION BY LIST (slot);
ALTER TABLE ONLY public.nonces ALTER COLUMN key SET STORAGE PLAIN;

CREATE TABLE public.nonces_0 (
    slot smallint CONSTRAINT nonces_slot_not_null NOT NULL,
    key bytea CONSTRAINT nonces_key_not_null NOT NULL
)
WITH (autovacuum_enabled=off);
ALTER TABLE ONLY public.nonces_0 ALTER COLUMN key SET STORAGE PLAIN;

CREATE TABLE public.pairwise_subjects (
    sector text NOT NULL,
    subject text NOT NULL,
    known_as text NOT NULL
);

CREATE TABLE public.pushed_requests (
    digest bytea NOT NULL,
    client_id text NOT NULL,
    request jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    browser bytea,
    spent_at timestamp with time zone
);

CREATE TABLE public.quotas (
    day date NOT NULL,
    key bytea NOT NULL,
    most bigint NOT NULL,
    taken bigint NOT NULL,
    asked bigint NOT NULL,
    given bigint NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE ONLY public.quotas ALTER COLUMN key SET STORAGE PLAIN;

CREATE UNLOGGED TABLE public.rate_buckets (
    key bytea NOT NULL,
    full_at timestamp with time zone NOT NULL,
    demand double precision NOT NULL,
    told_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');
ALTER TABLE ONLY public.rate_buckets ALTER COLUMN key SET STORAGE PLAIN;

CREATE UNLOGGED TABLE public.rate_workers (
    worker bytea NOT NULL,
    seen_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.rate_workers ALTER COLUMN worker SET STORAGE PLAIN;

CREATE TABLE public.refresh_tokens (
    digest bytea NOT NULL,
    family_id text NOT NULL,
    salt bytea NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    spent_at timestamp with time zone,
    successor bytea,
    CONSTRAINT refresh_tokens_spent_check CHECK (((spent_at IS NULL) = (successor IS NULL)))
);

CREATE TABLE public.registration_attempts (
    place text NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE public.registration_tokens (
    digest bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    uses_left integer NOT NULL,
    CONSTRAINT registration_tokens_uses_left_check CHECK ((uses_left >= 0))
);

CREATE TABLE public.registrations (
    client_id text NOT NULL,
    token_digest bytea,
    metadata jsonb NOT NULL,
    idle interval NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE public.schema_migrations (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.scope_uses (
    client_id text NOT NULL,
    scope text NOT NULL,
    used_at timestamp with time zone NOT NULL
);

CREATE TABLE public.scopes (
    name text NOT NULL,
    description text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT scopes_description_check CHECK ((description <> ''::text)),
    CONSTRAINT scopes_name_check CHECK ((name ~ '^[\x21\x23-\x5b\x5d-\x7e]+$'::text))
);

CREATE TABLE public.settings (
    singleton boolean DEFAULT true NOT NULL,
    master_key_id bytea NOT NULL,
    CONSTRAINT settings_singleton_check CHECK (singleton)
);

CREATE TABLE public.signing_keys (
    kid text NOT NULL,
    algorithm text NOT NULL,
    public jsonb NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    signs_from timestamp with time zone NOT NULL,
    signs_until timestamp with time zone,
    needed_until timestamp with time zone,
    CONSTRAINT signing_keys_algorithm_check CHECK ((algorithm = ANY (ARRAY['RS256'::text, 'ES256'::text, 'EdDSA'::text])))
);

CREATE TABLE public.token_nonces (
    key bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.nonces ATTACH PARTITION public.nonces_0 FOR VALUES IN ('0');

ALTER TABLE ONLY public.access_tokens
    ADD CONSTRAINT access_tokens_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.client_logos
    ADD CONSTRAINT client_logos_pkey PRIMARY KEY (client_id);

ALTER TABLE ONLY public.client_secrets
    ADD CONSTRAINT client_secrets_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (client_id);

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.device_codes
    ADD CONSTRAINT device_codes_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.device_codes
    ADD CONSTRAINT device_codes_user_code_key UNIQUE (user_code);

ALTER TABLE ONLY public.event_chain
    ADD CONSTRAINT event_chain_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.failed_attempts
    ADD CONSTRAINT failed_attempts_pkey PRIMARY KEY (account, browser);

ALTER TABLE ONLY public.families
    ADD CONSTRAINT families_pkey PRIMARY KEY (family_id);

ALTER TABLE ONLY public.flows
    ADD CONSTRAINT flows_pkey PRIMARY KEY (flow_id);

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_pkey PRIMARY KEY (grant_id);

ALTER TABLE ONLY public.logouts
    ADD CONSTRAINT logouts_once UNIQUE (client_id, session_id);

ALTER TABLE ONLY public.logouts
    ADD CONSTRAINT logouts_pkey PRIMARY KEY (logout_id);

ALTER TABLE ONLY public.nonce_database
    ADD CONSTRAINT nonce_database_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.nonce_floor
    ADD CONSTRAINT nonce_floor_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.nonce_layouts
    ADD CONSTRAINT nonce_layouts_pkey PRIMARY KEY (from_second);

ALTER TABLE ONLY public.nonces
    ADD CONSTRAINT nonces_pkey PRIMARY KEY (key, slot);

ALTER TABLE ONLY public.nonces_0
    ADD CONSTRAINT nonces_0_pkey PRIMARY KEY (key, slot);

ALTER TABLE ONLY public.pairwise_subjects
    ADD CONSTRAINT pairwise_subjects_known_as_key UNIQUE (known_as);

ALTER TABLE ONLY public.pairwise_subjects
    ADD CONSTRAINT pairwise_subjects_pkey PRIMARY KEY (sector, subject);

ALTER TABLE ONLY public.pushed_requests
    ADD CONSTRAINT pushed_requests_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.quotas
    ADD CONSTRAINT quotas_pkey PRIMARY KEY (day, key);

ALTER TABLE ONLY public.rate_buckets
    ADD CONSTRAINT rate_buckets_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.rate_workers
    ADD CONSTRAINT rate_workers_pkey PRIMARY KEY (worker);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.registration_tokens
    ADD CONSTRAINT registration_tokens_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.registrations
    ADD CONSTRAINT registrations_pkey PRIMARY KEY (client_id);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.scope_uses
    ADD CONSTRAINT scope_uses_pkey PRIMARY KEY (client_id, scope);

ALTER TABLE ONLY public.scopes
    ADD CONSTRAINT scopes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (session_id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_token_digest_key UNIQUE (token_digest);

ALTER TABLE ONLY public.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (kid);

ALTER TABLE ONLY public.token_nonces
    ADD CONSTRAINT token_nonces_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (subject);

CREATE INDEX access_tokens_client_id ON public.access_tokens USING btree (client_id);

CREATE INDEX access_tokens_expires_at ON public.access_tokens USING btree (expires_at);

CREATE INDEX access_tokens_subject ON public.access_tokens USING btree (subject) WHERE (subject IS NOT NULL);

CREATE INDEX changes_at ON public.changes USING btree (at);

CREATE INDEX client_logos_name ON public.client_logos USING btree (name);

CREATE INDEX client_secrets_client_id ON public.client_secrets USING btree (client_id);

CREATE INDEX clients_legacy ON public.clients USING btree (client_id) WHERE (grant_types && '{implicit,password}'::text[]);

CREATE INDEX clients_owner ON public.clients USING btree (owner) WHERE (owner IS NOT NULL);

CREATE INDEX codes_expires_at ON public.codes USING btree (expires_at) WHERE (spent_at IS NULL);

CREATE INDEX codes_family_id ON public.codes USING btree (family_id) WHERE (family_id IS NOT NULL);

CREATE INDEX codes_grant_id ON public.codes USING btree (grant_id);

CREATE INDEX codes_session_id ON public.codes USING btree (session_id) WHERE ((session_id IS NOT NULL) AND (spent_at IS NULL));

CREATE INDEX device_codes_client_id ON public.device_codes USING btree (client_id);

CREATE INDEX device_codes_expires_at ON public.device_codes USING btree (expires_at);

CREATE INDEX device_codes_subject ON public.device_codes USING btree (subject) WHERE (subject IS NOT NULL);

CREATE UNIQUE INDEX events_seq ON public.events USING btree (seq);

CREATE INDEX failed_attempts_last_failed_at ON public.failed_attempts USING btree (last_failed_at);

CREATE INDEX families_expires_at ON public.families USING btree (expires_at);

CREATE INDEX families_grant_id ON public.families USING btree (grant_id);

CREATE INDEX families_session_id ON public.families USING btree (session_id) WHERE (session_id IS NOT NULL);

CREATE INDEX flows_client_id ON public.flows USING btree (client_id);

CREATE INDEX flows_expires_at ON public.flows USING btree (expires_at);

CREATE INDEX flows_subject ON public.flows USING btree (subject);

CREATE INDEX grants_client_id ON public.grants USING btree (client_id);

CREATE UNIQUE INDEX grants_live_key ON public.grants USING btree (subject, client_id, resource) WHERE (revoked_at IS NULL);

CREATE INDEX grants_revoked_at ON public.grants USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);

CREATE INDEX grants_subject ON public.grants USING btree (subject);

CREATE INDEX logouts_due_at ON public.logouts USING btree (due_at);

CREATE INDEX pairwise_subjects_subject ON public.pairwise_subjects USING btree (subject);

CREATE INDEX pushed_requests_client_id ON public.pushed_requests USING btree (client_id);

CREATE INDEX pushed_requests_expires_at ON public.pushed_requests USING btree (expires_at);

CREATE INDEX refresh_tokens_expires_at ON public.refresh_tokens USING btree (expires_at);

CREATE INDEX registration_attempts_at ON public.registration_attempts USING btree (at);

CREATE INDEX registration_attempts_place ON public.registration_attempts USING btree (place, at);

CREATE INDEX registration_tokens_expires_at ON public.registration_tokens USING btree (expires_at);

CREATE INDEX registrations_expires_at ON public.registrations USING btree (expires_at);

CREATE INDEX sessions_expires_at ON public.sessions USING btree (expires_at);

CREATE INDEX sessions_subject ON public.sessions USING btree (subject);

CREATE INDEX token_nonces_expires_at ON public.token_nonces USING btree (expires_at);

CREATE UNIQUE INDEX users_email_key ON public.users USING btree (lower((email COLLATE "C")));

CREATE UNIQUE INDEX users_username_key ON public.users USING btree (lower((username COLLATE "C")));

ALTER INDEX public.nonces_pkey ATTACH PARTITION public.nonces_0_pkey;

CREATE CONSTRAINT TRIGGER access_tokens_changed AFTER UPDATE ON public.access_tokens DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((((((((((((old.digest IS DISTINCT FROM new.digest) OR (old.client_id IS DISTINCT FROM new.client_id)) OR (old.subject IS DISTINCT FROM new.subject)) OR (old.family_id IS DISTINCT FROM new.family_id)) OR (old.client_generation IS DISTINCT FROM new.client_generation)) OR (old.user_generation IS DISTINCT FROM new.user_generation)) OR (old.scopes IS DISTINCT FROM new.scopes)) OR (old.resource IS DISTINCT FROM new.resource)) OR (old.token_type IS DISTINCT FROM new.token_type)) OR (old.mac_algorithm IS DISTINCT FROM new.mac_algorithm)) OR (old.expires_at IS DISTINCT FROM new.expires_at)) OR (old.revoked_at IS DISTINCT FROM new.revoked_at))) EXECUTE FUNCTION public.note_change('token');

CREATE TRIGGER access_tokens_emptied AFTER TRUNCATE ON public.access_tokens FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE CONSTRAINT TRIGGER access_tokens_gone AFTER DELETE ON public.access_tokens DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.revoked_at IS NULL) AND (old.expires_at > clock_timestamp()))) EXECUTE FUNCTION public.note_change('token');

CREATE CONSTRAINT TRIGGER clients_changed AFTER UPDATE ON public.clients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((((old.disabled_at IS DISTINCT FROM new.disabled_at) OR (old.generation IS DISTINCT FROM new.generation)) OR (old.mac_drafts IS DISTINCT FROM new.mac_drafts)) OR (old.allow_groups IS DISTINCT FROM new.allow_groups))) EXECUTE FUNCTION public.note_change('client');

CREATE TRIGGER clients_emptied AFTER TRUNCATE ON public.clients FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE CONSTRAINT TRIGGER clients_gone AFTER DELETE ON public.clients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.note_change('client');

CREATE TRIGGER events_proven BEFORE INSERT ON public.events FOR EACH ROW WHEN ((length(new.proof) = 48)) EXECUTE FUNCTION public.prove_event();

CREATE CONSTRAINT TRIGGER families_changed AFTER UPDATE ON public.families DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.revoked_at IS DISTINCT FROM new.revoked_at) OR (old.grant_id IS DISTINCT FROM new.grant_id))) EXECUTE FUNCTION public.note_change('family');

CREATE TRIGGER families_emptied AFTER TRUNCATE ON public.families FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE CONSTRAINT TRIGGER families_gone AFTER DELETE ON public.families DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.revoked_at IS NULL) AND (old.expires_at > clock_timestamp()) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION public.note_change('family');

CREATE CONSTRAINT TRIGGER grants_changed AFTER UPDATE ON public.grants DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.revoked_at IS DISTINCT FROM new.revoked_at) OR (NOT (old.scopes <@ new.scopes)))) EXECUTE FUNCTION public.note_change('grant');

CREATE TRIGGER grants_emptied AFTER TRUNCATE ON public.grants FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE CONSTRAINT TRIGGER grants_gone AFTER DELETE ON public.grants DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.revoked_at IS NULL) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION public.note_change('grant');

CREATE CONSTRAINT TRIGGER sessions_changed AFTER UPDATE ON public.sessions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((((((old.token_digest IS DISTINCT FROM new.token_digest) OR (old.subject IS DISTINCT FROM new.subject)) OR (old.generation IS DISTINCT FROM new.generation)) OR (old.signed_in_at IS DISTINCT FROM new.signed_in_at)) OR (old.expires_at IS DISTINCT FROM new.expires_at)) OR (old.acr IS DISTINCT FROM new.acr))) EXECUTE FUNCTION public.note_change('user');

CREATE TRIGGER sessions_emptied AFTER TRUNCATE ON public.sessions FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE TRIGGER sessions_ended AFTER DELETE ON public.sessions FOR EACH ROW WHEN ((old.expires_at > clock_timestamp())) EXECUTE FUNCTION public.end_sign_ins();

CREATE CONSTRAINT TRIGGER sessions_gone AFTER DELETE ON public.sessions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.expires_at > clock_timestamp()) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION public.note_change('user');

CREATE CONSTRAINT TRIGGER users_changed AFTER UPDATE ON public.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((((((old.disabled_at IS DISTINCT FROM new.disabled_at) OR (old.generation IS DISTINCT FROM new.generation)) OR (old.session_generation IS DISTINCT FROM new.session_generation)) OR (old.username IS DISTINCT FROM new.username)) OR (old.email IS DISTINCT FROM new.email)) OR (old.groups IS DISTINCT FROM new.groups))) EXECUTE FUNCTION public.note_change('user');

CREATE TRIGGER users_emptied AFTER TRUNCATE ON public.users FOR EACH STATEMENT EXECUTE FUNCTION public.note_change('all');

CREATE CONSTRAINT TRIGGER users_gone AFTER DELETE ON public.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.note_change('user');

ALTER TABLE ONLY public.client_logos
    ADD CONSTRAINT client_logos_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.client_secrets
    ADD CONSTRAINT client_secrets_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_owner_fkey FOREIGN KEY (owner) REFERENCES public.users(subject) ON DELETE SET NULL;

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_family_id_fkey FOREIGN KEY (family_id) REFERENCES public.families(family_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(grant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.device_codes
    ADD CONSTRAINT device_codes_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.device_codes
    ADD CONSTRAINT device_codes_subject_fkey FOREIGN KEY (subject) REFERENCES public.users(subject) ON DELETE CASCADE;

ALTER TABLE ONLY public.families
    ADD CONSTRAINT families_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(grant_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.flows
    ADD CONSTRAINT flows_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.flows
    ADD CONSTRAINT flows_subject_fkey FOREIGN KEY (subject) REFERENCES public.users(subject) ON DELETE CASCADE;

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_subject_fkey FOREIGN KEY (subject) REFERENCES public.users(subject) ON DELETE CASCADE;

ALTER TABLE ONLY public.logouts
    ADD CONSTRAINT logouts_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.pairwise_subjects
    ADD CONSTRAINT pairwise_subjects_subject_fkey FOREIGN KEY (subject) REFERENCES public.users(subject) ON DELETE CASCADE;

ALTER TABLE ONLY public.pushed_requests
    ADD CONSTRAINT pushed_requests_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.registrations
    ADD CONSTRAINT registrations_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.scope_uses
    ADD CONSTRAINT scope_uses_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_subject_fkey FOREIGN KEY (subject) REFERENCES public.users(subject) ON DELETE CASCADE;
