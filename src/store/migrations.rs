//! The tables in PostgreSQL, and how they came about. A migration is never changed once it was released: another one
//! follows it.

/// In the order of their versions, from 1.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE clients (
        id TEXT COLLATE \"C\" PRIMARY KEY,
        entry TEXT NOT NULL,
        disabled BIGINT NOT NULL DEFAULT 0,
        changed_at BIGINT NOT NULL
    );
    CREATE TABLE client_federation (
        issuer TEXT COLLATE \"C\" NOT NULL,
        tenant TEXT COLLATE \"C\" NOT NULL,
        prefix TEXT COLLATE \"C\" NOT NULL,
        client_id TEXT COLLATE \"C\" NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
        PRIMARY KEY (issuer, tenant, prefix, client_id)
    );
    CREATE INDEX client_federation_client ON client_federation (client_id);
    CREATE TABLE signing_keys (
        kid TEXT COLLATE \"C\" PRIMARY KEY,
        algorithm TEXT NOT NULL,
        made_at BIGINT NOT NULL,
        signs_from BIGINT NOT NULL,
        signs_until BIGINT NOT NULL,
        token_ttl BIGINT NOT NULL,
        max_age BIGINT NOT NULL,
        retired_at BIGINT NOT NULL DEFAULT 0,
        certificate BYTEA,
        wrapped_key BYTEA NOT NULL
    );
    CREATE FUNCTION portcullis_tell_client() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                PERFORM pg_notify('portcullis', 'client:' || OLD.id);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                PERFORM pg_notify('portcullis', 'client:' || NEW.id);
            END IF;
            RETURN NULL;
        END
    $$;
    CREATE TRIGGER clients_changed AFTER INSERT OR UPDATE OR DELETE ON clients
        FOR EACH ROW EXECUTE FUNCTION portcullis_tell_client();
    CREATE FUNCTION portcullis_tell_keys() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('portcullis', 'signing_keys');
            RETURN NULL;
        END
    $$;
    CREATE TRIGGER signing_keys_changed AFTER INSERT OR UPDATE OR DELETE ON signing_keys
        FOR EACH STATEMENT EXECUTE FUNCTION portcullis_tell_keys();
"];

/// The version that this program knows.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;
