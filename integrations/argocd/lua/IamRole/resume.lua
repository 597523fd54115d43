-- "false" and not taken away: Argo CD takes a map that has become empty for a mistake, and puts the old one back.
local annotations = obj.metadata.annotations
if annotations ~= nil and annotations["iamrole.dev/suspend"] ~= nil then
  annotations["iamrole.dev/suspend"] = "false"
end
if obj.spec.suspend == true then
  obj.spec.suspend = false
end
return obj
