-- The sums of one outcome of a job: attempts, wall and CPU time as whole seconds and the nanoseconds above them (exact beyond
-- 2^53 ns), the highest peak, cost, and how many attempts had a cost.

local function add_usage(sum, wall, cpu, peak, cost)
  local wall_ns, cpu_ns = sum[3] + wall % 1e9, sum[5] + cpu % 1e9
  sum[1] = sum[1] + 1
  sum[2] = sum[2] + math.floor(wall / 1e9) + math.floor(wall_ns / 1e9)
  sum[3] = wall_ns % 1e9
  sum[4] = sum[4] + math.floor(cpu / 1e9) + math.floor(cpu_ns / 1e9)
  sum[5] = cpu_ns % 1e9
  if peak > sum[6] then
    sum[6] = peak
  end
  if cost >= 0 then
    sum[7], sum[8] = sum[7] + cost, sum[8] + 1
  end
end
