local annotations = obj.metadata.annotations or {}
local by_annotation = annotations["iamrole.dev/suspend"] ~= nil and annotations["iamrole.dev/suspend"] ~= "false"
if by_annotation or (obj.spec or {}).suspend == true then
  return {resume = {["iconClass"] = "fa fa-fw fa-play"}}
end
return {
  reconcile = {["iconClass"] = "fa fa-fw fa-sync"},
  suspend = {["iconClass"] = "fa fa-fw fa-pause"},
}
