{{- /*
The pod that runs the operator. The Deployment uses it to serve, and the Job of `uninstall.drain` to take everything
down. They share one template, so that both have the same arguments, rights and mounts. It takes a dict: `root` is the
chart's context, `drain` says whether the pod is the Job's.
*/ -}}
{{- define "fly-tunnel-operator.podTemplate" -}}
{{- with .root -}}
{{- $labels := include "fly-tunnel-operator.labels" . | fromYaml -}}
{{- $component := dict "app.kubernetes.io/component" ($.drain | ternary "drain" "operator") -}}
{{- $frpcPod := include "fly-tunnel-operator.frpcPod" . -}}
metadata:
  labels:
    {{- merge $component $labels (.Values.podLabels | default dict) | toYaml | nindent 4 }}
  {{- $annotations := .Values.podAnnotations | default dict }}
  {{- if $frpcPod }}
  {{- /* The operator reads the file only when it starts, so a change must replace the pod. It reads the token again and again. */}}
  {{- $annotations = merge (dict "checksum/frpc-pod" ($frpcPod | sha256sum)) $annotations }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "fly-tunnel-operator.serviceAccountName" . | quote }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  {{- /* The operator takes up to 5 s to finish what is under way and 3 s to release its Lease; a small node may be slower. */}}
  terminationGracePeriodSeconds: 15
  {{- if $.drain }}
  restartPolicy: Never
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    {{- /* With this group it may read the token. */}}
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  nodeSelector:
    {{- /* The image is one for Linux. */}}
    {{- merge (dict) (.Values.nodeSelector | default dict) (dict "kubernetes.io/os" "linux") | toYaml | nindent 4 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (gt (int .Values.replicaCount) 1) (not $.drain) }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      {{- /* All pods on one node are better than pods that cannot start. */}}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "fly-tunnel-operator.operatorLabels" . | nindent 10 }}
      {{- /* Pods that a rollout is about to end do not count for the spread. */}}
      matchLabelKeys: [pod-template-hash]
  {{- end }}
  containers:
    - name: operator
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- if $.drain }}
        {{- /* It comes first, so that no argument of the user's can take it for its value. */}}
        - --drain
        {{- end }}
        - --fly-api-token-file=/etc/fly-tunnel-operator/token/fly-api-token
        - {{ printf "--fly-org=%s" .Values.flyOrg | quote }}
        - {{ printf "--fly-region=%s" .Values.flyRegion | quote }}
        - --control-port-base={{ int .Values.controlPortBase }}
        {{- with .Values.flyMachineSize }}
        - {{ printf "--fly-machine-size=%s" . | quote }}
        {{- end }}
        {{- with .Values.loadBalancerClass }}
        - {{ printf "--load-balancer-class=%s" . | quote }}
        {{- end }}
        {{- with .Values.clusterName }}
        - {{ printf "--cluster-name=%s" . | quote }}
        {{- end }}
        {{- with .Values.frpsImage }}
        - {{ printf "--frps-image=%s" . | quote }}
        {{- end }}
        {{- with .Values.frpcImage }}
        - {{ printf "--frpc-image=%s" . | quote }}
        {{- end }}
        {{- if $frpcPod }}
        - --frpc-pod-file=/etc/fly-tunnel-operator/frpc/pod.json
        {{- end }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- with .Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if not $.drain }}
      ports:
        - name: http
          containerPort: 8080
      livenessProbe:
        {{- /* It fails if a thread is stuck, never because of Fly or the cluster. */}}
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 20
        timeoutSeconds: 5
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        {{- /* Whole folders are mounted: with subPath, a change of the Secret would not reach the pod. */}}
        - name: token
          mountPath: /etc/fly-tunnel-operator/token
          readOnly: true
        {{- if $frpcPod }}
        - name: frpc
          mountPath: /etc/fly-tunnel-operator/frpc
          readOnly: true
        {{- end }}
  volumes:
    - name: token
      secret:
        secretName: {{ include "fly-tunnel-operator.tokenSecret" . | quote }}
        defaultMode: 0440
        {{- if $.drain }}
        {{- /*
        Without its Secret the drain fails at once. If it waited for the Secret, it could outlive the uninstall and take
        down tunnels that serve again.
        */}}
        optional: true
        {{- end }}
        items:
          - key: fly-api-token
            path: fly-api-token
    {{- if $frpcPod }}
    - name: frpc
      configMap:
        name: {{ include "fly-tunnel-operator.fullname" . }}-frpc
    {{- end }}
{{- end }}
{{- end }}
