"""exp"""
from __future__ import annotations
from typing import Any, Dict, List, Optional
import os
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto as T
from obert_edge.bundle.program import Activation
from obert_edge.runtime.baselines import dense as d

MS = "com.microsoft"

class B:
    def __init__(self, m, att="Attention", int8="", skip=True, gelu="bias", mask=True, flat=False):
        self.flat=flat; self.flat3=False
        self.m=m; self.att=att; self.int8=int8; self.skip=skip; self.gelu=gelu; self.mask=mask
        self.nodes=[]; self.init=[]; self.n=0; self.cache={}
        self.val={}
    def c(self, a, name=None):
        self.n+=1
        name=name or f"c{self.n}"
        self.init.append(numpy_helper.from_array(np.ascontiguousarray(a), name)); return name
    def node(self, op, ins, domain="", outs=1, **kw):
        self.n+=1
        o=[f"v{self.n}_{i}" for i in range(outs)]
        self.nodes.append(helper.make_node(op, ins, o, domain=domain, name=f"n{self.n}", **kw))
        return o[0] if outs==1 else o
    def matmul(self, x, w_q, w_s, bias=None):
        # w_q [n,k]
        if not self.int8:
            W=(w_q.astype(np.float32)*w_s[:,None]).T
            if self.flat and bias is not None:
                y=self.node("Gemm",[self.node("Reshape",[x,self.c(np.array([-1,w_q.shape[1]]))]),self.c(W),self.c(bias)])
                return self.node("Reshape",[y,self.sh3]) if x in self.three else y
            y=self.node("MatMul",[x,self.c(W)])
            if bias is not None: y=self.node("Add",[y,self.c(bias)])
            return y
        if self.int8=="dqmm":
            ins=[x,self.c(w_q.T),self.c(w_s),self.c(np.zeros((),np.int8)) if os.environ.get("ZP") else ""]
            if bias is not None: ins.append(self.c(bias))
            return self.node("DynamicQuantizeMatMul",ins,MS)
        if x not in self.cache:
            self.cache[x]=self.node("DynamicQuantizeLinear",[x],outs=3)
        q,s,z=self.cache[x]
        if self.int8=="mitf":
            ins=[q,self.c(w_q.T),s,self.c(w_s),z,self.c(np.zeros((),np.int8)) if os.environ.get("ZP") else ""]
            if bias is not None: ins.append(self.c(bias))
            return self.node("MatMulIntegerToFloat",ins,MS)
        y=self.node("MatMulInteger",[q,self.c(w_q.T),z])
        y=self.node("Cast",[y],to=T.FLOAT)
        y=self.node("Mul",[y,self.node("Mul",[s,self.c(w_s)])])
        if bias is not None: y=self.node("Add",[y,self.c(bias)])
        return y
    def build(self):
        m=self.m
        ops=m.ops
        byout={o.output:o for o in ops if hasattr(o,"output")}
        qkv=set()
        for o in ops:
            if isinstance(o,d.SelfAttention): qkv|={o.query,o.key,o.value}
        self.sh3=self.node("Concat",[self.node("Shape",["input_ids"]),self.c(np.array([-1]))],axis=0) if self.flat else None
        self.three=type("All",(),{"__contains__":lambda s,x: x not in self.two})(); self.two=set()
        results=[]
        i=0
        mask_i32=self.node("Cast",["attention_mask"],to=T.INT32)
        bias_mask=None
        while i<len(ops):
            o=ops[i]; i+=1
            if isinstance(o,d.Embedding):
                w=self.node("Gather",[self.c(o.word.floats),"input_ids"])
                shape=self.node("Shape",["input_ids"],start=1)
                p=self.node("Slice",[self.c(o.position.floats), self.c(np.array([m.position_offset])), self.node("Add",[shape,self.c(np.array([m.position_offset]))])])
                x=self.node("Add",[w,p])
                if o.token_type is not None:
                    x=self.node("Add",[x,self.node("Gather",[self.c(o.token_type.floats),"token_type_ids"])])
                self.val[o.output]=x
            elif isinstance(o,d.Dense):
                if o.output in qkv and self.att!="plain": continue
                x=self.val[o.input]
                nxt=ops[i] if i<len(ops) else None
                if self.skip and o.residual is not None and isinstance(nxt,d.Norm):
                    r=self.val[o.residual]
                    if self.int8:
                        y=self.matmul(x,o.weight_q,o.weight_scale,o.bias)
                        y=self.node("SkipLayerNormalization",[y,r,self.c(nxt.gamma),self.c(nxt.beta)],MS,epsilon=nxt.epsilon)
                    else:
                        y=self.matmul(x,o.weight_q,o.weight_scale)
                        y=self.node("SkipLayerNormalization",[y,r,self.c(nxt.gamma),self.c(nxt.beta),self.c(o.bias)],MS,epsilon=nxt.epsilon)
                    self.val[nxt.output]=y; i+=1; continue
                if o.activation==Activation.GELU:
                    if self.gelu=="bias":
                        y=self.matmul(x,o.weight_q,o.weight_scale)
                        y=self.node("BiasGelu",[y,self.c(o.bias)],MS)
                    elif self.gelu=="std":
                        y=self.node("Gelu",[self.matmul(x,o.weight_q,o.weight_scale,o.bias)])
                    elif self.gelu=="ms":
                        y=self.node("Gelu",[self.matmul(x,o.weight_q,o.weight_scale,o.bias)],MS)
                    elif self.gelu=="erf":
                        y=self.matmul(x,o.weight_q,o.weight_scale,o.bias)
                        e=self.node("Erf",[self.node("Div",[y,self.c(np.float32(2**.5))])])
                        y=self.node("Mul",[self.node("Mul",[y,self.node("Add",[e,self.c(np.float32(1))])]),self.c(np.float32(.5))])
                    elif self.gelu=="fast":
                        y=self.matmul(x,o.weight_q,o.weight_scale)
                        y=self.node("FastGelu",[y,self.c(o.bias)],MS)
                else:
                    y=self.matmul(x,o.weight_q,o.weight_scale,o.bias)
                    if o.activation==Activation.TANH: y=self.node("Tanh",[y])
                    if o.activation==Activation.RELU: y=self.node("Relu",[y])
                if o.residual is not None: y=self.node("Add",[y,self.val[o.residual]])
                self.val[o.output]=y
            elif isinstance(o,d.Norm):
                self.val[o.output]=self.node("LayerNormalization",[self.val[o.input],self.c(o.gamma),self.c(o.beta)],epsilon=o.epsilon)
            elif isinstance(o,d.SelfAttention):
                q,k,v=byout[o.query],byout[o.key],byout[o.value]
                x=self.val[q.input]
                Wq=np.concatenate([q.weight_q,k.weight_q,v.weight_q]); Ws=np.concatenate([q.weight_scale,k.weight_scale,v.weight_scale]); bb=np.concatenate([q.bias,k.bias,v.bias])
                mk=mask_i32 if self.mask else ""
                if self.att=="Attention" and not self.int8:
                    y=self.node("Attention",[x,self.c((Wq.astype(np.float32)*Ws[:,None]).T),self.c(bb),mk],MS,num_heads=o.heads)
                elif self.att=="Attention":
                    if x not in self.cache: self.cache[x]=self.node("DynamicQuantizeLinear",[x],outs=3)
                    qq,s,z=self.cache[x]
                    y=self.node("QAttention",[qq,self.c(Wq.T),self.c(bb),s,self.c(Ws),mk,z,self.c(np.zeros((),np.int8)) if os.environ.get("ZP") else ""],MS,num_heads=o.heads)
                elif self.att=="mha3":
                    Q,K,V=[self.matmul(x,l.weight_q,l.weight_scale,l.bias if self.int8 else None) for l in (q,k,v)]
                    y=self.node("MultiHeadAttention",[Q,K,V,"" if self.int8 else self.c(bb),mk],MS,num_heads=o.heads)
                elif self.att=="mhasplit":
                    qkvv=self.matmul(x,Wq,Ws,bb)
                    Q,K,V=self.node("Split",[qkvv],outs=3,axis=-1,num_outputs=3)
                    y=self.node("MultiHeadAttention",[Q,K,V,"",mk],MS,num_heads=o.heads)
                elif self.att=="plain":
                    h,D=o.heads,o.head_dim
                    if bias_mask is None:
                        mf=self.node("Cast",["attention_mask"],to=T.FLOAT)
                        mf=self.node("Unsqueeze",[mf,self.c(np.array([1,2]))])
                        bias_mask=self.node("Mul",[self.node("Sub",[self.c(np.float32(1)),mf]),self.c(np.float32(-10000))])
                    sh=self.c(np.array([0,0,h,D]))
                    Q,K,V=[self.node("Reshape",[self.val[t],sh]) for t in (o.query,o.key,o.value)]
                    Q=self.node("Transpose",[Q],perm=[0,2,1,3]); K=self.node("Transpose",[K],perm=[0,2,3,1]); V=self.node("Transpose",[V],perm=[0,2,1,3])
                    s=self.node("Div",[self.node("MatMul",[Q,K]),self.c(np.float32(D**.5))])
                    s=self.node("Softmax",[self.node("Add",[s,bias_mask])],axis=-1)
                    y=self.node("MatMul",[s,V])
                    y=self.node("Reshape",[self.node("Transpose",[y],perm=[0,2,1,3]),self.c(np.array([0,0,h*D]))])
                self.val[o.output]=y
            elif isinstance(o,d.Pool):
                self.val[o.output]=self.node("Gather",[self.val[o.input],self.c(np.array(0))],axis=1); self.two|={self.val[o.output]}; self.flat=False
            elif isinstance(o,d.Result):
                self.nodes.append(helper.make_node("Identity",[self.val[o.input]],[o.name]))
                results.append(helper.make_tensor_value_info(o.name,T.FLOAT,None))
        ins=[helper.make_tensor_value_info(n,T.INT64,["batch","sequence"]) for n in ("input_ids","attention_mask","token_type_ids")]
        g=helper.make_graph(self.nodes,"bert",ins,results,self.init)
        return helper.make_model(g,opset_imports=[helper.make_opsetid("",20),helper.make_opsetid(MS,1)],ir_version=10)
