-- How Argo CD sees a resource of aegate: Healthy, Progressing, Degraded or Suspended, and the operator's own sentence.
-- For ApplicationEntity, ImageRoute and PatientPartition alike.
local health = { status = "Progressing", message = "The operator has not looked at it yet." }

if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not looked at this version yet." }
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local function is(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

if is("Stalled") then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if is("Reconciling") then
  return { status = "Progressing", message = conditions.Reconciling.message }
end
if is("Ready") then
  local status = conditions.Ready.reason == "Suspended" and "Suspended" or "Healthy"
  return { status = status, message = conditions.Ready.message }
end
if conditions.Ready ~= nil then
  return { status = "Degraded", message = conditions.Ready.message }
end
return health
