CREATE TABLE clients (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    entry TEXT NOT NULL,
    disabled BIGINT NOT NULL DEFAULT 0,
    changed_at BIGINT NOT NULL
);
CREATE TABLE client_federation (
    issuer TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    prefix TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    PRIMARY KEY (issuer, tenant, prefix, client_id)
);
CREATE INDEX client_federation_client ON client_federation (client_id);
CREATE FUNCTION portcullis_client_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('portcullis', 'client:' || OLD.id);
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM pg_notify('portcullis', 'client:' || NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER clients_changed AFTER INSERT OR UPDATE OR DELETE ON clients
    FOR EACH ROW EXECUTE FUNCTION portcullis_client_changed();
CREATE TABLE signing_keys (
    kid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    signs_until BIGINT,
    token_ttl BIGINT NOT NULL,
    max_age BIGINT NOT NULL,
    nonce BYTEA NOT NULL,
    sealed_key BYTEA NOT NULL,
    certificate BYTEA
);
CREATE FUNCTION portcullis_signing_keys_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('portcullis', 'signing-keys');
    RETURN NULL;
END
$$;
CREATE TRIGGER signing_keys_changed AFTER INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION portcullis_signing_keys_changed();
