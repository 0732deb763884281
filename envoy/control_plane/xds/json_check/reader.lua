-- Reads JSON byte by byte from a body that arrives in chunks. The first of the three parts of the script that
-- checks JSON requests (see request.lua).
--
-- A reader has the text that is not read yet (`text`, from `at` on), the field that is read now (`names`,
-- `indexes`, `depth`), and the chunk that has arrived last (`chunk`).

local byte, find, format, gsub, lower = string.byte, string.find, string.format, string.gsub, string.lower
local match, sub = string.match, string.sub
local LONGEST_NAME = 1024
local CONTROL_CHARACTER = "has a control character; JSON wants it as an escape sequence"
local UNKNOWN_ESCAPE = "has an escape sequence that JSON does not know"
local HALF_A_PAIR = "has half of a surrogate pair, which is no character"
local TOO_EARLY = "the JSON ends too early"
local QUOTE, BACKSLASH, COMMA, COLON, LETTER_U = 34, 92, 44, 58, 117
local LIST, END_OF_LIST, OBJECT, END_OF_OBJECT = 91, 93, 123, 125
local IS_SPACE = {[32] = true, [9] = true, [13] = true, [10] = true}
local SIMPLE_ESCAPE, HEX = {}, {}
for letter in string.gmatch('"\\/bfnrt', ".") do SIMPLE_ESCAPE[byte(letter)] = true end
for digit in string.gmatch("0123456789abcdefABCDEF", ".") do HEX[byte(digit)] = tonumber(digit, 16) end
-- The kind of a fault that `refuse` throws, in contrast to a mistake in this script.
local Refusal = {}

-- A piece of the request as an answer may show it: short, and without bytes that need care.
local function shown(text)
  local plain = gsub(text, "[^%w%p ]", "?")
  if #plain > 60 then plain = sub(plain, 1, 57) .. "..." end
  return "'" .. plain .. "'"
end

local function refuse(field, problem)
  error(setmetatable({field = field, problem = problem}, Refusal), 0)
end

-- The field that is read now, such as `examples[2].label`.
local function place(reader)
  local parts = {}
  for depth = 1, reader.depth do
    local index = reader.indexes[depth]
    parts[depth] = reader.names[depth] .. (index and format("[%d]", index) or "")
  end
  return #parts > 0 and table.concat(parts, ".") or "body"
end

local function refuse_here(reader, problem)
  refuse(place(reader), problem)
end

local function expected(reader, what, found)
  if not found then refuse_here(reader, TOO_EARLY) end
  refuse_here(reader, format("the JSON has %s where %s is expected", shown(string.char(found)), what))
end

-- Add the next chunk to the text that is not read yet. Returns false at the end of the body.
local function more(reader)
  local chunk = reader.next_chunk()
  while chunk and chunk:length() == 0 do chunk = reader.next_chunk() end
  -- The last chunk stays in hand: Envoy passes it on only when this script waits or ends.
  if not chunk then return false end
  reader.passed = reader.passed or reader.chunk ~= nil
  reader.chunk = chunk
  local bytes = chunk:getBytes(0, chunk:length())
  -- Lua takes these two for white space, and JSON takes them nowhere.
  if find(bytes, "\v", 1, true) or find(bytes, "\f", 1, true) then refuse("body", CONTROL_CHARACTER) end
  reader.text = sub(reader.text, reader.at) .. bytes
  reader.at = 1
  reader.quote, reader.backslash, reader.control = 0, 0, 0
  return true
end

local function need_more(reader)
  if not more(reader) then refuse_here(reader, TOO_EARLY) end
end

-- Have at least `count` bytes of text from `at` on; return the place where they begin then.
local function have(reader, at, count)
  while #reader.text < at + count - 1 do
    reader.at = at
    need_more(reader)
    at = 1
  end
  return at
end

-- Go to the next byte that is not white space and return it; nil at the end of the body.
local function next_byte(reader)
  while true do
    local found = byte(reader.text, reader.at)
    if found and not IS_SPACE[found] then return found end
    local _, last = find(reader.text, "^%s*", reader.at)
    reader.at = last + 1
    if last == #reader.text and not more(reader) then return nil end
  end
end

-- Return the place of the next byte, from `at` on, that ends a string or needs care in one: a quote, a
-- backslash, or a control character; nil when the text has none. Each of the three places is kept until it
-- is passed, so that no part of a text is searched twice.
local function next_stop(reader, at)
  local text = reader.text
  local none = #text + 1
  if reader.quote < at then reader.quote = find(text, '"', at, true) or none end
  if reader.backslash < at then reader.backslash = find(text, "\\", at, true) or none end
  if reader.control < at then
    -- This pattern is the quickest search for a kind of bytes that Lua has: 1.2 ns a byte instead of 25.
    local _, last = find(text, "^%C*", at)
    -- DEL is one of Lua's control characters, and none of JSON's.
    if byte(text, last + 1) == 127 then _, last = find(text, "^[^%z\1-\31]*", last + 1) end
    reader.control = last + 1
  end
  local stop = math.min(reader.quote, reader.backslash, reader.control)
  return stop < none and stop or nil
end

-- Pass over the escape sequence at `at`, the place of a backslash, and over those that follow closely, byte by
-- byte: where they are a large part of a text this takes a tenth of the time of a search for each. Returns the
-- place behind them.
local function after_escapes(reader, at)
  while true do
    at = have(reader, at, 2)
    local first = byte(reader.text, at + 1)
    if SIMPLE_ESCAPE[first] then
      at = at + 2
    elseif first ~= LETTER_U then
      refuse_here(reader, UNKNOWN_ESCAPE)
    else
      at = have(reader, at, 6)
      local a, b, c, d = byte(reader.text, at + 2, at + 5)
      if not (HEX[a] and HEX[b] and HEX[c] and HEX[d]) then refuse_here(reader, UNKNOWN_ESCAPE) end
      at = at + 6
      if HEX[a] == 13 and HEX[b] >= 12 then
        refuse_here(reader, HALF_A_PAIR)
      elseif HEX[a] == 13 and HEX[b] >= 8 then
        -- The first half of a pair, \uD800 to \uDBFF; the second half is \uDC00 to \uDFFF.
        at = have(reader, at, 2)
        if sub(reader.text, at, at + 1) ~= "\\u" then refuse_here(reader, HALF_A_PAIR) end
        at = have(reader, at, 6)
        a, b, c, d = byte(reader.text, at + 2, at + 5)
        if HEX[a] ~= 13 or (HEX[b] or 0) < 12 or not (HEX[c] and HEX[d]) then
          refuse_here(reader, HALF_A_PAIR)
        end
        at = at + 6
      end
    end
    local text, near = reader.text, at + 16
    local found = byte(text, at)
    while found and found > 31 and found ~= QUOTE and found ~= BACKSLASH and at < near do
      at = at + 1
      found = byte(text, at)
    end
    if found ~= BACKSLASH then return at end
  end
end

-- Pass over a string, which may be longer than the text that has arrived.
local function skip_string(reader)
  local at = reader.at + 1
  while true do
    local stop = next_stop(reader, at)
    if not stop then
      reader.at = #reader.text + 1
      need_more(reader)
      at = 1
    else
      local found = byte(reader.text, stop)
      if found == QUOTE then
        reader.at = stop + 1
        return
      elseif found ~= BACKSLASH then
        refuse_here(reader, CONTROL_CHARACTER)
      end
      at = after_escapes(reader, stop)
    end
  end
end

-- Read a string that is short when it is right: a name, a number, an enum's value.
local function short_string(reader)
  local at = reader.at + 1
  while true do
    local stop = next_stop(reader, at)
    local found = stop and byte(reader.text, stop)
    if (stop or #reader.text) - reader.at > LONGEST_NAME then
      refuse_here(reader, "has a name or a value that is far too long")
    elseif found == QUOTE then
      local raw = sub(reader.text, reader.at + 1, stop - 1)
      reader.at = stop + 1
      -- Other escape sequences stand for characters that no name, number or enum has.
      return (gsub(raw, "\\u00([0-7]%x)", function(hex) return string.char(tonumber(hex, 16)) end))
    elseif found and found ~= BACKSLASH then
      refuse_here(reader, CONTROL_CHARACTER)
    elseif found and stop < #reader.text then
      at = stop + 2
    else
      at = (stop or #reader.text + 1) - reader.at + 1
      need_more(reader)
    end
  end
end

local function literal(reader, word)
  have(reader, reader.at, #word)
  if sub(reader.text, reader.at, reader.at + #word - 1) ~= word then
    refuse_here(reader, "has a value that is no JSON")
  end
  reader.at = reader.at + #word
end

-- Return what a number's text stands for, or nil when JSON has no such number.
local function number_of(text)
  local whole, fraction, exponent = match(text, "^%-?(%d+)(%.?%d*)([eE]?[+-]?%d*)$")
  if not whole or (#whole > 1 and byte(whole) == 48) or fraction == "." then return nil end
  if exponent ~= "" and not find(exponent, "^[eE][+-]?%d+$") then return nil end
  return tonumber(text)
end

-- Read a number, which may stand in quotes. Returns its text, and its value or nil.
local function number(reader, first)
  local text
  if first == QUOTE then
    text = short_string(reader)
  else
    local _, last = find(reader.text, "^[-+.%deE]*", reader.at)
    while last == #reader.text do
      if last - reader.at > LONGEST_NAME then refuse_here(reader, "has a number that is far too long") end
      need_more(reader)
      _, last = find(reader.text, "^[-+.%deE]*", reader.at)
    end
    text = sub(reader.text, reader.at, last)
    reader.at = last + 1
  end
  return text, number_of(text)
end
