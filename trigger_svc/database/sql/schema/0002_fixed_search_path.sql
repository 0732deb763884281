-- compatible_from: 1
-- The function finds its table and operators whatever search_path its caller has.
ALTER FUNCTION mesh.end_of_queue(text) SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION mesh.end_of_queue(text) FROM PUBLIC;
