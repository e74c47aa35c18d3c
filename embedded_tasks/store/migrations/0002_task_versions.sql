-- A task's version is the end of its stored name ("send@2"; none stands for 1), so that a process
-- whose code lacks the version, of whatever release, does not claim its jobs. These columns take
-- the two apart, for whoever reads; a release before this one goes on writing the name alone.
ALTER TABLE tasks ADD COLUMN title TEXT GENERATED ALWAYS AS (
    iif(
        name GLOB '?*@[1-9]*' AND substr(rtrim(name, '0123456789'), -1) = '@'
            AND length(name) - length(rtrim(name, '0123456789')) BETWEEN 1 AND 6
            AND substr(name, length(rtrim(name, '0123456789')) + 1, 1) <> '0',
        substr(name, 1, length(rtrim(name, '0123456789')) - 1),
        name
    )
) VIRTUAL;
ALTER TABLE tasks ADD COLUMN version INTEGER GENERATED ALWAYS AS (
    iif(title = name, 1, CAST(substr(name, length(title) + 2) AS INTEGER))
) VIRTUAL;
