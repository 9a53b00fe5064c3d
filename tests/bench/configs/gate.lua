-- The gateway's job as one writes it for nginx in an hour: SHA-256 of the key, its scope, the stamp.
-- cjson reads every number as a double, so it changes those beyond 2^53.

local cjson = require "cjson"
local ffi = require "ffi"

ffi.cdef [[ unsigned char *SHA256(const unsigned char *text, size_t length, unsigned char *digest); ]]

local digest = ffi.new("unsigned char[32]")

local function from_hex(text)
   return (text:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

local keys = {
   [from_hex("@DIGEST@")] = {
      id = "@KEY_ID@",
      scopes = { ["transactions:read"] = true, ["transactions:write"] = true },
   },
}

local routes = {
   GET = {
      { "^/transactions/[^/]+$", "transactions:read" },
      { "^/transactions$", "transactions:read" },
      { "^/balances/[^/]+$", "balances:read" },
      { "^/balances$", "balances:read" },
      { "^/ledgers/[^/]+$", "ledgers:read" },
      { "^/ledgers$", "ledgers:read" },
   },
   POST = {
      { "^/transactions$", "transactions:write", true },
      { "^/balances$", "balances:write", true },
      { "^/ledgers$", "ledgers:write", true },
   },
}

local function refuse(status, text)
   ngx.status = status
   ngx.header["Content-Type"] = "application/json; charset=utf-8"
   ngx.print(cjson.encode { error = text })
   return ngx.exit(status)
end

local function route_of(method, path)
   for _, route in ipairs(routes[method] or {}) do
      if path:find(route[1]) then return route end
   end
end

local function stamp(key_id)
   ngx.req.read_body()
   local good, record = pcall(cjson.decode, ngx.req.get_body_data())
   if not good or type(record) ~= "table" then return false end
   if type(record.meta_data) ~= "table" then record.meta_data = {} end
   record.meta_data.BLNK_GENERATED_BY = key_id
   ngx.req.set_body_data(cjson.encode(record))
   return true
end

function gate()
   local text = ngx.var.http_x_blnk_key
   if not text then return refuse(401, "Authentication required. Use X-Blnk-Key header") end
   ffi.C.SHA256(text, #text, digest)
   local key = keys[ffi.string(digest, 32)]
   if not key then return refuse(401, "Invalid API key") end
   local route = route_of(ngx.req.get_method(), ngx.var.uri)
   if not route then return refuse(404, "Route not found") end
   if not key.scopes[route[2]] then return refuse(403, "Insufficient permissions for " .. route[2]) end
   if route[3] and not stamp(key.id) then return refuse(400, "Request body must be one JSON object") end
end
