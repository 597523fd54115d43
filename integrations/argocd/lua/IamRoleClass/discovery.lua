if obj.spec.suspend == true then
  return {resume = {["iconClass"] = "fa fa-fw fa-play"}}
end
return {
  reconcile = {["iconClass"] = "fa fa-fw fa-sync"},
  suspend = {["iconClass"] = "fa fa-fw fa-pause"},
}
