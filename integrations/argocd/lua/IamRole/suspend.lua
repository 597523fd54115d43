-- The annotation and not spec.suspend: what Git does not have is no difference, so self-healing leaves it alone.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["iamrole.dev/suspend"] = "true"
return obj
