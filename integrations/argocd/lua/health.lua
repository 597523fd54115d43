-- Conditions are those of kstatus, and their order in the list means nothing. IamRole and IamRoleClass alike.
local status = obj.status or {}
local metadata = obj.metadata or {}
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready = found.Ready or {}

if metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = ready.message or "being deleted"}
end
if status.observedGeneration ~= metadata.generation then
  local message = "waiting for the operator to see this generation"
  if status.observedGeneration == nil or status.observedGeneration < 0 then
    message = "the operator has not seen it yet: does it run, and does it serve this namespace and class?"
  end
  return {status = "Progressing", message = message}
end
if found.Stalled ~= nil and found.Stalled.status == "True" then
  return {status = "Degraded", message = found.Stalled.message}
end
if found.Reconciling ~= nil and found.Reconciling.status == "True" then
  return {status = "Progressing", message = found.Reconciling.message}
end
if ready.status == nil then
  return {status = "Progressing", message = "waiting for the operator"}
end
if ready.status ~= "True" then
  -- Nothing is under way and nothing is wrong: a suspended object, or one in mode Observe with a plan. It goes on when
  -- somebody says so.
  return {status = "Suspended", message = ready.message}
end
if obj.kind == "IamRoleClass" and obj.spec.suspend == true then
  return {status = "Suspended", message = "suspended by spec.suspend: no call to AWS is made for any role of the class"}
end
-- So that a later wave starts no pod that would never get credentials; what is not known yet may be so. A ServiceAccount
-- that is missing has no pods; it may be part of a later wave, which must not be waited for. What is not the operator's to
-- do it never knows.
local bound = found.IdentityBound or {}
local unbound = bound.status == "False" and bound.reason ~= "ServiceAccountMissing"
local unknown = bound.status == "Unknown" and bound.reason ~= "BindingNotManaged"
if unbound or unknown then
  return {status = "Progressing", message = bound.message}
end
local role = status.role or {}
return {status = "Healthy", message = role.arn or ready.message}
