"""The small Lua scripts among the HTTP filters.

Each is a filter of its own, so that a request that does not need it does not pay for it.
"""

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua

from control_plane.xds.routes.known_paths import STREAMS_OVER_GET

# Everything behind this filter sees GET. The HTTP/1.1 codec knows from the request line that the
# answer has no content, and adds no chunks; the pieces of the body are emptied here. A stream is
# asked for as the thing that it watches, since it would end only with the training.
_HEAD = """
local STREAMS = {{{streams}}}

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = headers:get(":path"):match("^([^?]*)(.*)$")
  for _, verb in ipairs(STREAMS) do
    if path:sub(-#verb) == verb then
      headers:replace(":path", path:sub(1, -#verb - 1) .. query)
    end
  end
  headers:replace(":method", "GET")
end

function envoy_on_response(handle)
  local pieces = 0
  for piece in handle:bodyChunks() do
    piece:setBytes("")
    pieces = pieces + 1
  end
  -- With pieces the headers have left already.
  local headers = handle:headers()
  if pieces == 0 and not headers:get("content-length") then
    headers:add("content-length", "0")
  end
end
"""

# The filter that takes the model from a call's first message waits for that message until the
# call's deadline, so a call that ends without any is answered before it.
_FIRST_MESSAGE = """
function envoy_on_request(handle)
  for _ in handle:bodyChunks() do
    return
  end
  -- It fails for a call that is trailers only, whose headers have left by now; the filter behind
  -- this one lets it pass.
  pcall(handle.respond, handle, {[":status"] = "400"}, "message: is missing; send a whole one")
end
"""

# Before the first message came, only the path was known.
_ROUTE_AGAIN = "function envoy_on_request(handle) handle:clearRouteCache() end"


def head() -> Lua:
    """Answer HEAD as GET is answered, without the content."""
    streams = ", ".join(f'"{verb}"' for verb in STREAMS_OVER_GET)
    return _lua(_HEAD.format(streams=streams))


def first_message() -> Lua:
    """Answer 400 when a call has no message at all."""
    return _lua(_FIRST_MESSAGE)


def route_again() -> Lua:
    """Choose the route again, now that the call's model is known."""
    return _lua(_ROUTE_AGAIN)


def _lua(code: str) -> Lua:
    return Lua(default_source_code=DataSource(inline_string=code))
