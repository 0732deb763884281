-- Checks that values are of the kinds that the contract gives to their fields. The second part of the script
-- (see request.lua). MESSAGES and MOST_ITEMS are made from the contract by script.py.

local function kind_of(first)
  if first == QUOTE then return "a string" end
  if first == LIST then return "a list" end
  if first == OBJECT then return "an object" end
  if first == 116 or first == 102 then return "true or false" end
  if first == 110 then return "null" end
  return "a number"
end

local function wrong_kind(reader, wanted, first)
  if not find(string.char(first), '["%[{tfn%d-]') then expected(reader, wanted, first) end
  refuse_here(reader, format("is %s; it must be %s", kind_of(first), wanted))
end

local function begins_number(first)
  return first == QUOTE or first == 45 or (first >= 48 and first <= 57)
end

local object
local read = {}

function read.string(reader, _, first)
  if first ~= QUOTE then wrong_kind(reader, "a string", first) end
  skip_string(reader)
end

function read.bool(reader, _, first)
  if first == 116 then
    literal(reader, "true")
  elseif first == 102 then
    literal(reader, "false")
  else
    wrong_kind(reader, "true or false", first)
  end
end

function read.int32(reader, _, first)
  if not begins_number(first) then wrong_kind(reader, "a whole number", first) end
  local text, value = number(reader, first)
  if not value or value ~= math.floor(value) or value < -2147483648 or value > 2147483647 then
    refuse_here(reader, shown(text) .. " is no whole number of -2147483648 to 2147483647")
  end
end

function read.double(reader, _, first)
  if not begins_number(first) then wrong_kind(reader, "a number", first) end
  local text, value = number(reader, first)
  if first == QUOTE and (text == "NaN" or text == "Infinity" or text == "-Infinity") then return end
  if not value or value == math.huge or value == -math.huge then
    refuse_here(reader, shown(text) .. " is no number that a double can hold")
  end
end

function read.enum(reader, field, first)
  if first ~= QUOTE then return read.int32(reader, field, first) end
  local text = short_string(reader)
  if not field.values[text] then
    refuse_here(reader, format("%s is none of its values: %s", shown(text), field.list))
  end
end

function read.message(reader, field, first)
  if first ~= OBJECT then wrong_kind(reader, "an object", first) end
  object(reader, MESSAGES[field.type])
end

local function list(reader, field, first)
  if first ~= LIST then wrong_kind(reader, "a list", first) end
  local depth, read_item, count = reader.depth, read[field.kind], 0
  reader.at = reader.at + 1
  first = next_byte(reader)
  if first == END_OF_LIST then
    reader.at = reader.at + 1
    return
  end
  while true do
    reader.indexes[depth] = count
    if not first then expected(reader, "a value", first) end
    read_item(reader, field, first)
    count = count + 1
    first = next_byte(reader)
    reader.indexes[depth] = nil
    if first == END_OF_LIST then break end
    if first ~= COMMA then expected(reader, "',' or ']'", first) end
    if count == MOST_ITEMS then
      refuse_here(reader, format("has more items than any request may have, %d", MOST_ITEMS))
    end
    reader.at = reader.at + 1
    first = next_byte(reader)
  end
  reader.at = reader.at + 1
end

-- A field that the path gives as well: the body may only repeat it.
local function as_in_path(reader, value, first)
  if first ~= QUOTE then wrong_kind(reader, "a string", first) end
  local text = short_string(reader)
  if text ~= value then
    refuse_here(reader, format("is %s in the body, and the path says %s", shown(text), shown(value)))
  end
end

local function member(reader, message, seen)
  local found = byte(reader.text, reader.at)
  if found ~= QUOTE then expected(reader, "a name in double quotes", found) end
  local name = short_string(reader)
  local field = message.fields[name]
  if not field then
    refuse_here(reader, format("has no field %s; its fields are %s", shown(name), message.list))
  end
  reader.depth = reader.depth + 1
  reader.names[reader.depth] = field.name
  if seen[field] then refuse_here(reader, "is given twice") end
  seen[field] = true
  if reader.depth == 1 and reader.in_query[field.plain] then
    refuse_here(reader, "is given in the body and in the query")
  end
  found = next_byte(reader)
  if found ~= COLON then expected(reader, "':'", found) end
  reader.at = reader.at + 1
  found = next_byte(reader)
  local in_path = reader.depth == 1 and reader.path_values[field.name]
  if not found then
    expected(reader, "a value", found)
  elseif found == 110 then
    -- null stands for a field that is left out; as an item of a list it stands for nothing.
    literal(reader, "null")
  elseif in_path then
    as_in_path(reader, in_path, found)
  elseif field.repeated then
    list(reader, field, found)
  else
    read[field.kind](reader, field, found)
  end
  reader.depth = reader.depth - 1
end

function object(reader, message)
  reader.at = reader.at + 1
  local found, seen = next_byte(reader), {}
  if found ~= END_OF_OBJECT then
    while true do
      if not found then expected(reader, "a name in double quotes", found) end
      member(reader, message, seen)
      found = next_byte(reader)
      if found == END_OF_OBJECT then break end
      if found ~= COMMA then expected(reader, "',' or '}'", found) end
      reader.at = reader.at + 1
      found = next_byte(reader)
    end
  end
  reader.at = reader.at + 1
end
