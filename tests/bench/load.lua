-- wrk's script: `wrk ... -s load.lua URL -- METHOD KEY [FILE OF THE BODY]`; its last line of output is JSON.

function init(arguments)
   wrk.method = arguments[1]
   wrk.headers["X-Blnk-Key"] = arguments[2]
   if arguments[3] then
      local file = assert(io.open(arguments[3], "rb"))
      wrk.body = file:read("*a")
      file:close()
      wrk.headers["Content-Type"] = "application/json"
   end
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      '{"requests":%d,"failed":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d}\n',
      summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)
   ))
end
