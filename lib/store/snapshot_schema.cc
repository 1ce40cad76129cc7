#include "lib/store/snapshot_schema.h"

namespace conductor::store {

const char* const kTables = R"sql(
CREATE TABLE snapshot (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  conductor TEXT NOT NULL,
  saved_at REAL NOT NULL,
  hash_seed INTEGER NOT NULL,
  blocks INTEGER NOT NULL,
  runs INTEGER NOT NULL,
  holdings INTEGER NOT NULL,
  digest INTEGER NOT NULL
);
CREATE TABLE digests (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  rows INTEGER NOT NULL,
  digest INTEGER NOT NULL
);
CREATE TABLE tiers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE publishers (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  registration TEXT NOT NULL,
  configured INTEGER NOT NULL,
  saved_at REAL NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  cursor INTEGER,
  digest INTEGER,
  digests BLOB,
  first_sequence INTEGER,
  newest_time REAL,
  damage TEXT CHECK (damage IN ('incomplete', 'doubtful')),
  damage_detail TEXT,
  needs_rebuild INTEGER,
  block_size INTEGER,
  rank INTEGER,
  several_ranks INTEGER,
  ranks_are_believed INTEGER,
  trimmed INTEGER
);
CREATE TABLE namespaces (
  id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  model TEXT NOT NULL,
  lora_name TEXT NOT NULL,
  block_size INTEGER NOT NULL,
  additional_salt TEXT NOT NULL
);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  namespace INTEGER NOT NULL REFERENCES namespaces (id),
  parent INTEGER REFERENCES runs (id),
  parent_block INTEGER,
  position INTEGER NOT NULL,
  length INTEGER NOT NULL,
  prefixes BLOB NOT NULL
);
CREATE TABLE holders (
  id INTEGER PRIMARY KEY,
  publisher INTEGER NOT NULL REFERENCES publishers (id),
  namespace INTEGER NOT NULL REFERENCES namespaces (id),
  instance_id TEXT NOT NULL,
  dp_rank INTEGER NOT NULL
);
CREATE TABLE holdings (
  run INTEGER NOT NULL REFERENCES runs (id),
  holder INTEGER NOT NULL REFERENCES holders (id),
  tier INTEGER NOT NULL REFERENCES tiers (id),
  blocks INTEGER NOT NULL,
  held INTEGER NOT NULL
);
CREATE TABLE special_holdings (
  run INTEGER NOT NULL REFERENCES runs (id),
  holder INTEGER NOT NULL REFERENCES holders (id),
  tier INTEGER NOT NULL REFERENCES tiers (id),
  block INTEGER NOT NULL,
  span INTEGER NOT NULL,
  copies INTEGER NOT NULL
);
CREATE TABLE spaces (
  id INTEGER PRIMARY KEY,
  publisher INTEGER NOT NULL REFERENCES publishers (id),
  cache_group INTEGER NOT NULL,
  tenant TEXT,
  model TEXT,
  additional_salt TEXT
);
CREATE TABLE names (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (id),
  blocks INTEGER NOT NULL,
  names BLOB NOT NULL
);
CREATE TABLE aliases (
  space INTEGER NOT NULL REFERENCES spaces (id),
  names INTEGER NOT NULL REFERENCES names (id)
);
CREATE TABLE alias_spans (
  space INTEGER NOT NULL REFERENCES spaces (id),
  run INTEGER NOT NULL REFERENCES runs (id),
  block INTEGER NOT NULL,
  name INTEGER NOT NULL,
  span INTEGER NOT NULL
);
CREATE TABLE waiting (
  id INTEGER PRIMARY KEY,
  publisher INTEGER NOT NULL REFERENCES publishers (id),
  space INTEGER NOT NULL REFERENCES spaces (id),
  namespace INTEGER REFERENCES namespaces (id),
  tier INTEGER NOT NULL REFERENCES tiers (id),
  dp_rank INTEGER NOT NULL,
  parent INTEGER,
  begins_prompt INTEGER NOT NULL,
  span INTEGER NOT NULL,
  hashes BLOB NOT NULL,
  gone BLOB NOT NULL,
  locals BLOB NOT NULL,
  prefixes BLOB NOT NULL
);
CREATE TABLE deadlines (
  space INTEGER NOT NULL REFERENCES spaces (id),
  tier INTEGER NOT NULL REFERENCES tiers (id),
  dp_rank INTEGER NOT NULL,
  name INTEGER NOT NULL,
  seconds_left REAL NOT NULL
);
CREATE TABLE pools (
  publisher INTEGER PRIMARY KEY REFERENCES publishers (id),
  dropped INTEGER NOT NULL,
  lost_tenants INTEGER NOT NULL,
  foreign_model TEXT NOT NULL,
  foreign_prefix TEXT NOT NULL,
  objects_unread INTEGER NOT NULL,
  objects_foreign INTEGER NOT NULL,
  last_event_id INTEGER NOT NULL
);
CREATE TABLE pool_families (
  id INTEGER PRIMARY KEY,
  publisher INTEGER NOT NULL REFERENCES publishers (id),
  tenant TEXT NOT NULL,
  model TEXT NOT NULL,
  form TEXT NOT NULL,
  prefix TEXT NOT NULL,
  variant TEXT NOT NULL,
  cache_group INTEGER NOT NULL,
  tensor_ranks INTEGER,
  pipeline_ranks INTEGER,
  prefill_context_ranks INTEGER,
  decode_context_ranks INTEGER,
  layers INTEGER,
  told_tensor_ranks INTEGER,
  has_k INTEGER NOT NULL,
  has_v INTEGER NOT NULL,
  unchanged INTEGER NOT NULL
);
CREATE TABLE pool_objects (
  id INTEGER PRIMARY KEY,
  family INTEGER NOT NULL REFERENCES pool_families (id),
  key TEXT NOT NULL,
  name INTEGER NOT NULL,
  component INTEGER NOT NULL,
  backend TEXT NOT NULL,
  on_cpu INTEGER NOT NULL,
  on_disk INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  cpu_seconds_left REAL,
  disk_seconds_left REAL
);
)sql";

const char* const kViews = R"sql(
CREATE VIEW offsets AS
  WITH RECURSIVE counted (block) AS (
    SELECT 0 UNION ALL SELECT block + 1 FROM counted WHERE block < 63)
  SELECT block FROM counted;
CREATE VIEW blocks AS
  SELECT runs.id AS run, offsets.block AS block, namespaces.tenant AS tenant,
         namespaces.model AS model, namespaces.lora_name AS lora_name,
         namespaces.block_size AS block_size, namespaces.additional_salt AS additional_salt,
         runs.position + offsets.block AS position,
         lower(hex(substr(runs.prefixes, offsets.block * 8 + 1, 8))) AS hash
  FROM runs
  JOIN namespaces ON namespaces.id = runs.namespace
  JOIN offsets ON offsets.block < runs.length;
CREATE VIEW blocks_by_instance AS
  SELECT holders.instance_id AS instance_id, holders.dp_rank AS dp_rank,
         publishers.key AS publisher, tiers.name AS tier, namespaces.tenant AS tenant,
         namespaces.model AS model, namespaces.lora_name AS lora_name,
         runs.position + offsets.block AS position,
         lower(hex(substr(runs.prefixes, offsets.block * 8 + 1, 8))) AS hash,
         holdings.run AS run, offsets.block AS block
  FROM holdings
  JOIN holders ON holders.id = holdings.holder
  JOIN publishers ON publishers.id = holders.publisher
  JOIN tiers ON tiers.id = holdings.tier
  JOIN runs ON runs.id = holdings.run
  JOIN namespaces ON namespaces.id = runs.namespace
  JOIN offsets ON offsets.block < runs.length AND holdings.blocks >> offsets.block & 1;
CREATE VIEW longest_prefixes AS
  WITH RECURSIVE
  spans (run, holder, tier, block, span) AS (
    SELECT run, holder, tier, block, span FROM special_holdings WHERE span > 1),
  spanned (run, holder, tier) AS (SELECT DISTINCT run, holder, tier FROM spans),
  covered (run, holder, tier, block) AS (
    SELECT run, holder, tier, offsets.block
    FROM spanned JOIN holdings USING (run, holder, tier)
    JOIN offsets ON holdings.blocks >> offsets.block & 1
    UNION
    SELECT run, holder, tier, offsets.block
    FROM spans JOIN offsets ON offsets.block BETWEEN spans.block - span + 1 AND spans.block),
  leading (run, holder, tier, blocks) AS (
    SELECT holdings.run, holdings.holder, holdings.tier,
           coalesce((SELECT min(block) FROM offsets
                     WHERE block < runs.length AND NOT holdings.blocks >> block & 1), runs.length)
    FROM holdings JOIN runs ON runs.id = holdings.run
    WHERE holdings.blocks & 1
      AND (holdings.run, holdings.holder, holdings.tier) NOT IN (SELECT * FROM spanned)
    UNION ALL
    SELECT run, holder, tier, count(*)
    FROM (SELECT run, holder, tier, block,
                 row_number() OVER (PARTITION BY run, holder, tier ORDER BY block) - 1 AS place
          FROM covered)
    WHERE block = place GROUP BY run, holder, tier),
  before (run, holder, tier, at, block, span) AS (
    SELECT run, holder, tier, parent, parent_block, span - block - 1
    FROM spans JOIN runs ON runs.id = spans.run WHERE span > block
    UNION ALL
    SELECT run, holder, tier, runs.parent, runs.parent_block, span - block - 1
    FROM before JOIN runs ON runs.id = before.at WHERE span > block),
  entries (run, holder, tier, blocks, parent, needed) AS (
    SELECT leading.run, holder, tier, blocks, runs.parent, runs.parent_block + 1
    FROM leading JOIN runs ON runs.id = leading.run
    UNION ALL
    SELECT run, holder, tier, blocks, at, block + 1 - span
    FROM before JOIN leading USING (run, holder, tier) WHERE at IS NULL OR span <= block),
  reached (run, holder, tier, blocks) AS (
    SELECT run, holder, tier, blocks FROM entries WHERE parent IS NULL
    UNION
    SELECT entries.run, entries.holder, entries.tier, entries.blocks
    FROM reached
    JOIN entries ON entries.parent = reached.run AND entries.holder = reached.holder
                AND entries.tier = reached.tier AND entries.needed <= reached.blocks)
  SELECT holders.instance_id AS instance_id, holders.dp_rank AS dp_rank,
         publishers.key AS publisher, tiers.name AS tier, namespaces.model AS model,
         namespaces.lora_name AS lora_name, max(runs.position + reached.blocks) AS blocks,
         max(runs.position + reached.blocks) * namespaces.block_size AS tokens
  FROM reached
  JOIN runs ON runs.id = reached.run
  JOIN namespaces ON namespaces.id = runs.namespace
  JOIN holders ON holders.id = reached.holder
  JOIN publishers ON publishers.id = holders.publisher
  JOIN tiers ON tiers.id = reached.tier
  GROUP BY holders.id, tiers.id, namespaces.id;
CREATE VIEW shared_by AS
  SELECT tenant, model, lora_name, hash, position, count(DISTINCT instance_id) AS instances,
         count(DISTINCT instance_id || '|' || dp_rank) AS ranks
  FROM blocks_by_instance
  GROUP BY tenant, model, lora_name, hash, position;
CREATE VIEW tier_use AS
  SELECT holders.instance_id AS instance_id, holders.dp_rank AS dp_rank,
         publishers.key AS publisher, tiers.name AS tier, namespaces.model AS model,
         namespaces.lora_name AS lora_name, sum(holdings.held) AS blocks,
         sum(holdings.held) * namespaces.block_size AS tokens
  FROM holdings
  JOIN holders ON holders.id = holdings.holder
  JOIN publishers ON publishers.id = holders.publisher
  JOIN tiers ON tiers.id = holdings.tier
  JOIN namespaces ON namespaces.id = holders.namespace
  GROUP BY holders.id, tiers.id;
CREATE VIEW publisher_state AS
  SELECT publishers.key AS publisher,
         json_extract(publishers.registration, '$.instance_id') AS instance_id,
         json_extract(publishers.registration, '$.type') AS type,
         json_extract(publishers.registration, '$.endpoint') AS endpoint,
         json_extract(publishers.registration, '$.incarnation') AS incarnation,
         CASE publishers.configured WHEN 1 THEN 'file' ELSE 'request' END AS registered_by,
         publishers.state AS state, publishers.reason AS reason, publishers.cursor AS cursor,
         printf('%016x', publishers.digest) AS digest, publishers.block_size AS block_size,
         datetime(publishers.saved_at, 'unixepoch') AS saved_at,
         coalesce((SELECT sum(holdings.held) FROM holdings
                   JOIN holders ON holders.id = holdings.holder
                   WHERE holders.publisher = publishers.id), 0) AS holdings,
         (SELECT count(*) FROM waiting WHERE waiting.publisher = publishers.id) AS waiting,
         (SELECT count(*) FROM pool_objects
          JOIN pool_families ON pool_families.id = pool_objects.family
          WHERE pool_families.publisher = publishers.id) AS objects
  FROM publishers;
)sql";

}  // namespace conductor::store
