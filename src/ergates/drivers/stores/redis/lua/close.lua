-- needs:
-- No more tasks will come. The request: the job. The answer: whether there is one.

local job = load_job(request)
if job and job.open then
  job.open = false
  set_job(job, 'open', '0')
  flush_jobs()
end
return finish(job and 1 or 0)
