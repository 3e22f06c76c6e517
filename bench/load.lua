-- One load for wrk whose every answer is checked. After "--" come NAME=VALUE pairs:
--   status, body      what each answer must be (no body: any)
--   begins            what each answer's body begins with
--   whole             a file of whole requests, each ended by a zero byte, sent in turn; or
--   method, path      what is asked for
--   token             sent with every request, or
--   tokens            a file of them, a line each, sent in turn, or
--   signed            a file of Authorization values, a line each, sent in turn, or
--   invented          a pattern in which each request puts its own number for NUMBER
--   send              a file that is each request's body

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local wanted, pending, turn = {}, {}, 0

local function content(file)
  local handle = assert(io.open(file, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

function init(args)
  wrong = 0 -- global: read by `done`
  local given = {}
  for _, arg in ipairs(args) do
    local name, value = arg:match("^(%w+)=(.*)$")
    given[name] = value
  end
  wanted = { status = tonumber(given.status), body = given.body, begins = given.begins }
  if given.whole then
    for each in content(given.whole):gmatch("[^%z]+") do
      table.insert(pending, each)
    end
    request = function()
      turn = turn % #pending + 1
      return pending[turn]
    end
    return
  end
  local body = given.send and content(given.send)
  local function formed(token, scheme)
    local headers = { Host = wrk.headers["Host"], Authorization = token and (scheme or "Bearer ") .. token }
    return wrk.format(given.method, given.path, headers, body)
  end
  if given.tokens then
    for token in content(given.tokens):gmatch("[^\n]+") do
      table.insert(pending, formed(token))
    end
    request = function()
      turn = turn % #pending + 1
      return pending[turn]
    end
  elseif given.signed then
    local front, back = formed("VALUE", ""):match("^(.-)VALUE(.*)$")
    for value in content(given.signed):gmatch("[^\n]+") do
      table.insert(pending, value)
    end
    request = function()
      turn = turn % #pending + 1
      return front .. pending[turn] .. back
    end
  elseif given.invented then
    local front, back = formed(given.invented):match("^(.-)NUMBER(.*)$")
    request = function()
      turn = turn + 1
      return front .. string.format("%010d", turn) .. back
    end
  else
    wrk.method, wrk.path, wrk.body = given.method, given.path, body
    wrk.headers["Authorization"] = given.token and "Bearer " .. given.token
  end
end

function response(status, headers, body)
  if status ~= wanted.status
    or (wanted.body and body ~= wanted.body)
    or (wanted.begins and body:sub(1, #wanted.begins) ~= wanted.begins)
  then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("checked %d %d %d %d\n", summary.requests, summary.duration, bad, lost))
end
