-- needs: jobs lanes tasks dependencies ring
-- Go on with what follows from tasks that ended. The answer: how many steps are left.

local left = follow_up()
flush_jobs()
ring_for_new_tasks()
return finish(pack(left))
