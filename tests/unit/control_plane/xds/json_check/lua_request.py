"""Runs the check of JSON requests as Envoy would: in LuaJIT, with a stand-in for Envoy's handle."""

from dataclasses import dataclass
from typing import Any

from lupa import luajit21

from control_plane.xds.basics.contract_paths import descriptor
from control_plane.xds.json_check.script import script

# What request.lua calls on the handle that Envoy gives it. `passed` collects the body that goes on
# to the transcoder.
_HANDLE = b"""
return function(method, path, content_type, chunks)
  local answer, passed, logged, status = {}, {}, nil, nil
  local headers = {[":method"] = method, [":path"] = path, ["content-type"] = content_type}
  local waiting, at = nil, 0
  local function pass() if waiting then passed[#passed + 1] = waiting.bytes waiting = nil end end
  local handle = {}
  function handle:headers() return {get = function(_, name) return headers[name] end} end
  function handle:bodyChunks()
    return function()
      -- Envoy passes a chunk on when the script asks for the next one, but keeps the last one.
      if at == #chunks then return nil end
      pass()
      at = at + 1
      local chunk = {bytes = chunks[at]}
      waiting = chunk
      function chunk:length() return #self.bytes end
      function chunk:getBytes(from, count) return string.sub(self.bytes, from + 1, from + count) end
      function chunk:setBytes(bytes) self.bytes = bytes end
      return chunk
    end
  end
  function handle:streamInfo()
    return {dynamicMetadata = function()
      return {set = function(_, _, key, value) answer[key] = value end}
    end}
  end
  function handle:respond(head) status = head[":status"] end
  function handle:logErr(text) logged = text end
  envoy_on_request(handle)
  pass()
  for rest = at + 1, #chunks do passed[#passed + 1] = chunks[rest] end
  return answer.field, answer.problem, status, table.concat(passed), logged
end
"""


@dataclass(frozen=True)
class Verdict:
    """What the check made of a request; `field` and `problem` are empty when it passed."""

    field: str
    problem: str
    status: str
    """Status of an answer that was given before the body was read; empty: there was none."""

    passed: bytes
    """The body as the transcoder gets it."""


class LuaRequest:
    """The script in a LuaJIT of its own."""

    def __init__(self) -> None:
        lua = luajit21.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        lua.execute(script(descriptor()).encode())
        self._lua = lua
        self._check: Any = lua.execute(_HANDLE)

    def check(
        self,
        path: str,
        *chunks: bytes,
        method: str = "POST",
        content_type: str = "application/json",
    ) -> Verdict:
        """Check one request whose body arrives in these chunks. Raises when the script fails."""
        field, problem, status, passed, logged = self._check(
            method.encode(),
            path.encode(),
            content_type.encode(),
            self._lua.table_from([bytes(chunk) for chunk in chunks]),
        )
        if logged is not None:
            raise AssertionError(logged)
        texts = [(text or b"").decode() for text in (field, problem, status)]
        return Verdict(texts[0], texts[1], texts[2], passed)
