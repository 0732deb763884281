-- Refuses a JSON request that ProtoJSON refuses, before the transcoder reads it: the transcoder drops
-- nulls and unknown fields, flattens lists, and takes a lone value for a list, and what it has changed
-- cannot be seen behind it. Also refuses a body or a query that contradicts the path.
--
-- The body is read chunk by chunk, as it arrives, so that a large one holds up no other request. When a
-- fault is found, the request has begun to pass through the later filters, and the answer can no longer
-- be given here. The rest of the body is then replaced by bytes that no JSON parser takes, and the fault is
-- left in the request's metadata, from which Envoy makes the answer (reply.py).
--
-- ROUTES is made from the contract by script.py, which also names METADATA.

local function unescaped(text)
  return (gsub(text, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Whether the text is a whole body that gives nothing but a list of one string without escape sequences, as
-- most requests do: {"texts": ["great"]}. One search tells it, in a fraction of the reader's time.
local function is_one_string(reader, message)
  local name = match(reader.text, '^%s*{%s*"([%w_]+)"%s*:%s*%[%s*"[^"\\%c]*"%s*%]%s*}%s*$')
  local field = name and message.fields[name]
  return field and field.repeated and field.kind == "string" and not reader.path_values[field.name]
    and not reader.in_query[field.plain]
end

-- Read the whole body. An empty one gives no field.
local function read_body(reader, message)
  if not more(reader) then return end
  if is_one_string(reader, message) then
    reader.at = #reader.text + 1
  else
    local first = next_byte(reader)
    if not first then expected(reader, "an object", first) end
    if first ~= OBJECT then wrong_kind(reader, "an object", first) end
    object(reader, message)
  end
  reader.closed = true
  local rest = next_byte(reader)
  if rest then expected(reader, "the end", rest) end
end

-- The name of a query parameter, however it is written: maxExamples is max_examples.
local function plain_name(text)
  return lower((gsub(unescaped(text), "_", "")))
end

-- Refuse a query that gives a field of the path, or one field twice. Returns the names that it gives.
local function read_query(query, route, path_values)
  local seen = {}
  for name in string.gmatch(query, "([^&=]+)[^&]*") do
    local plain = plain_name(name)
    for field in pairs(path_values) do
      local bound = plain_name(field)
      if plain == bound or sub(plain, 1, #bound + 1) == bound .. "." then
        refuse(field, "is given by the path, so the query cannot give it")
      end
    end
    if seen[plain] and not route.repeated[plain] then
      refuse(gsub(unescaped(name), "[^%w_.]", "?"), "is given twice in the query")
    end
    seen[plain] = true
  end
  return seen
end

-- Return the method that a path leads to, and the fields that the path gives; nil when there is none.
local function route_of(method, path)
  for _, route in ipairs(ROUTES[method] or {}) do
    local values = {match(path, route.pattern)}
    if values[1] then
      local path_values = {}
      for index, name in ipairs(route.variables) do path_values[name] = unescaped(values[index]) end
      return route, path_values
    end
  end
end

local function leave_answer(handle, refusal)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(METADATA, "field", refusal.field)
  metadata:set(METADATA, "problem", refusal.problem)
  metadata:set(METADATA, "message", refusal.field .. ": " .. refusal.problem)
end

-- Call a check. Returns the refusal, or nil and what the check returns.
local function refused_by(handle, check, ...)
  local ok, result = pcall(check, ...)
  if ok then return nil, result end
  if getmetatable(result) == Refusal then return result end
  handle:logErr("the check of JSON requests failed: " .. tostring(result))
  return {field = "body", problem = "could not be read"}
end

-- Replace the rest of the body, so that the transcoder refuses all of it.
local function spoil(reader)
  local chunk, spoilt = reader.chunk, "{"
  if reader.closed then
    spoilt = "x"
  elseif reader.passed then
    spoilt = ""
  end
  while chunk do
    -- A chunk that Envoy has passed on already cannot be changed. The fault is then that the JSON ends too
    -- early, which the transcoder sees as well.
    pcall(chunk.setBytes, chunk, spoilt)
    chunk, spoilt = reader.next_chunk(), ""
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if find(headers:get("content-type") or "", "^application/grpc") then return end
  local path, query = match(headers:get(":path"), "^([^?]*)%??(.*)$")
  -- The transcoder takes a path with a slash at its end for the same one.
  local route, path_values = route_of(headers:get(":method"), gsub(path, "/$", ""))
  if not route then return end
  local refusal, in_query = nil, {}
  if query ~= "" then
    refusal, in_query = refused_by(handle, read_query, query, route, path_values)
    if refusal then
      leave_answer(handle, refusal)
      handle:respond({[":status"] = "400"}, "")
      return
    end
  end
  local reader = {
    next_chunk = handle:bodyChunks(), text = "", at = 1, quote = 0, backslash = 0, control = 0,
    depth = 0, names = {}, indexes = {}, path_values = path_values, in_query = in_query,
  }
  refusal = refused_by(handle, read_body, reader, MESSAGES[route.message])
  if refusal then
    leave_answer(handle, refusal)
    spoil(reader)
  end
end
