-- Who may do what with the audit. This idempotent script runs after the one that makes its tables.
DO $$
DECLARE
    found regclass;
BEGIN
    FOREACH found IN ARRAY ARRAY['mesh.audit', 'mesh.audit_retention']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO mesh_audit', found);
    END LOOP;
END
$$;
ALTER FUNCTION mesh.keep_audit() OWNER TO mesh_audit;
ALTER FUNCTION mesh.clean_audit() OWNER TO mesh_audit;
GRANT USAGE ON SCHEMA mesh TO mesh_audit;

REVOKE ALL ON mesh.audit, mesh.audit_retention FROM PUBLIC, mesh_shared, mesh_training, mesh_trigger,
    mesh_control_plane, mesh_operator, mesh_training_tables, mesh_outbox;
-- The `mesh` command records tokens as mesh_shared, and the audit beside them. Every part and the
-- operator is a member of that role.
GRANT INSERT ON mesh.audit TO mesh_shared;
-- The operator's sessions act as mesh_training_tables until they SET ROLE NONE: the trigger service
-- is a member of that role too.
GRANT SELECT ON mesh.audit, mesh.audit_retention TO mesh_operator;

REVOKE ALL ON FUNCTION mesh.keep_audit(), mesh.clean_audit() FROM PUBLIC, mesh_shared, mesh_training,
    mesh_control_plane, mesh_operator, mesh_training_tables, mesh_outbox;
GRANT EXECUTE ON FUNCTION mesh.clean_audit() TO mesh_trigger;
