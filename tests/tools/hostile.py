# ruff: noqa: E501  programs are a line each
"""Programs that try to get out of a sandbox, or to outlast it: each is Python, and each goes another way.

They are made from ways and targets. `tests/tools/test_sandbox.py` runs them all, and some of them under
Python itself, where they do what they say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class Canaries:
    """What nobody may touch: a file, a folder to write into, a port that listens, and a variable."""

    file: str
    folder: str
    port: int
    variable: str


# Reading: P stands for a path in quotes.
_READS = """
print(open(P).read())
print(open(P, 'rb').read())
print(open(file=P, mode='r', encoding='utf-8').readline())
print([line for line in open(P)])
with open(P) as file: print(file.readlines())
import io; print(io.open(P).read())
import os; print(os.read(os.open(P, os.O_RDONLY), 1000))
import os; print(os.fdopen(os.open(P, 0)).read())
import codecs; print(codecs.open(P).read())
from pathlib import Path; print(Path(P).read_text())
from pathlib import Path; print(Path(P).read_bytes())
from pathlib import Path; print(Path(P).open().read())
from pathlib import Path; print((Path('/') / P.lstrip('/')).read_text())
import pathlib; print(pathlib.PosixPath(P).read_text())
print(eval('open')(P).read())
exec('print(open(' + repr(P) + ').read())')
print((lambda path: open(path).read())(P))
print(list(map(open, [P]))[0].read())
print(f'{open(P).read()}')
import linecache; print(linecache.getlines(P))
import fileinput; print(list(fileinput.input([P])))
import mmap; print(mmap.mmap(open(P, 'rb').fileno(), 0, access=mmap.ACCESS_READ)[:])
import shutil; print(shutil.copyfile(P, '/dev/stdout'))
import tokenize; print(tokenize.open(P).read())
import numpy; print(numpy.fromfile(P, dtype='uint8'))
import runpy; print(runpy.run_path(P))
import importlib.util; print(importlib.util.spec_from_file_location('m', P).loader.get_data(P))
import builtins; print(builtins.open(P).read())
print(getattr(__builtins__, 'open', open)(P).read())
print(__builtins__['open'](P).read())
""".strip().splitlines()

_LOOKS = """
import os; print(os.listdir(D))
import os; print([entry.name for entry in os.scandir(D)])
import os; print(list(os.walk(D)))
import os; print(os.stat(F).st_size)
import os; print(os.path.getsize(F))
import os; print('found' if os.path.exists(F) else 1 / 0)
import os; print('found' if os.access(F, os.R_OK) else 1 / 0)
import os; print(os.readlink('/proc/self/exe'))
import glob; print('found' if glob.glob(D + '/*') else 1 / 0)
from pathlib import Path; print('found' if Path(F).exists() else 1 / 0)
from pathlib import Path; print('found' if Path(F).is_file() else 1 / 0)
from pathlib import Path; print([path.name for path in Path(D).iterdir()])
from pathlib import Path; print([path.name for path in Path(D).rglob('*')])
from pathlib import Path; print(Path(F).stat().st_size)
from pathlib import Path; print('found', Path.home())
import os; os.chdir(D); print(os.listdir('.'))
""".strip().splitlines()

_WRITES = """
open(W, 'w').write('x')
open(W, 'a').write('x')
open(W, 'wb').write(b'x')
open(W, 'x').close()
open(W, 'r+').write('x')
with open(W, 'w+') as file: file.write('x')
print('x', file=open(W, 'w'))
from pathlib import Path; Path(W).write_text('x')
from pathlib import Path; Path(W).write_bytes(b'x')
from pathlib import Path; Path(W).touch()
from pathlib import Path; Path(W).mkdir(parents=True)
from pathlib import Path; Path(W).symlink_to('/etc/passwd')
from pathlib import Path; Path(F).unlink()
from pathlib import Path; Path(F).rename(W)
from pathlib import Path; Path(F).chmod(0)
import os; os.remove(F)
import os; os.rename(F, W)
import os; os.replace(F, W)
import os; os.mkdir(W)
import os; os.makedirs(W + '/a/b')
import os; os.symlink(F, W)
import os; os.link(F, W)
import os; os.truncate(F, 0)
import os; os.chmod(F, 0)
import os; os.write(os.open(W, os.O_CREAT | os.O_WRONLY), b'x')
import shutil; shutil.rmtree(D)
import shutil; shutil.copy(F, W)
import tempfile; tempfile.NamedTemporaryFile(dir=D, delete=False).write(b'x')
import sqlite3; sqlite3.connect(W).execute('create table t (x)')
import zipfile; zipfile.ZipFile(W, 'w').writestr('a', 'b')
import pickle; pickle.dump(1, open(W, 'wb'))
import logging; logging.basicConfig(filename=W); logging.error('x')
import json; json.dump({}, open(W, 'w'))
""".strip().splitlines()

_CALLS = """
import socket; socket.create_connection(('127.0.0.1', N), 1).send(b'x')
import socket; s = socket.socket(); s.connect(('localhost', N)); s.send(b'x')
import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', N))
import _socket; _socket.socket().connect(('127.0.0.1', N))
import urllib.request; urllib.request.urlopen('http://127.0.0.1:%d/' % N, timeout=1)
from urllib import request; request.urlretrieve('http://127.0.0.1:%d/' % N)
import http.client; http.client.HTTPConnection('127.0.0.1', N, timeout=1).request('GET', '/')
import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', N))
import ftplib; ftplib.FTP().connect('127.0.0.1', N, 1)
import smtplib; smtplib.SMTP('127.0.0.1', N, timeout=1)
import poplib; poplib.POP3('127.0.0.1', N, timeout=1)
import imaplib; imaplib.IMAP4('127.0.0.1', N)
import telnetlib; telnetlib.Telnet('127.0.0.1', N, 1)
import xmlrpc.client; xmlrpc.client.ServerProxy('http://127.0.0.1:%d' % N).f()
import requests; requests.get('http://127.0.0.1:%d' % N, timeout=1)
import httpx; httpx.get('http://127.0.0.1:%d' % N)
import aiohttp; aiohttp.ClientSession()
import ssl; ssl.get_server_certificate(('127.0.0.1', N))
import webbrowser; webbrowser.open('http://127.0.0.1:%d' % N)
import socketserver; socketserver.TCPServer(('127.0.0.1', N + 1), None)
import multiprocessing.connection; multiprocessing.connection.Client(('127.0.0.1', N))
import logging.handlers; logging.handlers.SocketHandler('127.0.0.1', N).createSocket()
open('http://127.0.0.1:%d' % N)
open('/dev/tcp/127.0.0.1/%d' % N)
""".strip().splitlines()

_VARIABLES = """
import os; print(os.environ[V])
import os; print(os.environ.get(V))
import os; print(os.getenv(V))
import os; print(os.getenvb(V.encode()))
import os; print(dict(os.environ))
import os; print(os.environ.copy())
from os import environ; print(list(environ.items()))
import posix; print(posix.environ)
import os; print(os.path.expandvars('$' + V))
import sys; print(sys.modules['os'].environ)
print(__import__('os').environ[V])
import importlib; print(importlib.import_module('os').environ[V])
import subprocess; print(subprocess.getoutput('env'))
import os; print(os.popen('env').read())
print(open('/proc/self/environ').read())
import os; print(open('/proc/%d/environ' % os.getppid()).read())
""".strip().splitlines()

_PROCESSES = """
import os; os.system('touch ' + W)
import os; print(os.popen('touch ' + W).read())
import os; os.fork(); open(W, 'w')
import os; os.forkpty()
import os; os.execv('/bin/sh', ['sh', '-c', 'touch ' + W])
import os; os.execvp('touch', ['touch', W])
import os; os.spawnv(os.P_WAIT, '/bin/sh', ['sh', '-c', 'touch ' + W])
import os; os.posix_spawn('/bin/sh', ['sh', '-c', 'touch ' + W], {})
import os; os.kill(os.getppid(), 9)
import os; os.kill(os.getpid(), 9)
import os; os.killpg(0, 9)
import os; os.abort()
import os; os._exit(0)
import signal; signal.raise_signal(signal.SIGKILL)
import signal; signal.alarm(1)
import subprocess; subprocess.run(['touch', W])
import subprocess; subprocess.Popen('touch ' + W, shell=True).wait()
import subprocess; print(subprocess.check_output(['id']))
import multiprocessing; multiprocessing.Process(target=open, args=(W, 'w')).start()
from concurrent.futures import ProcessPoolExecutor; ProcessPoolExecutor().submit(open, W, 'w').result()
import threading; threading.Thread(target=lambda: open(W, 'w')).start()
import _thread; _thread.start_new_thread(open, (W, 'w'))
import asyncio; asyncio.run(asyncio.create_subprocess_shell('touch ' + W))
import pty; pty.spawn(['touch', W])
import ctypes; ctypes.CDLL(None).system(('touch ' + W).encode())
import platform; print(platform.popen('id'))
import sys; sys.exit(0)
import faulthandler; faulthandler._sigsegv()
import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
import atexit; atexit.register(open, W, 'w')
import gc; print(gc.get_objects())
import inspect; print(inspect.stack())
import site; print(site.getsitepackages())
import pip; pip.main(['install', 'x'])
""".strip().splitlines()

_IMPORTS = """
import M; print(M.__file__)
from M import *
print(__import__('M').__file__)
import importlib; print(importlib.import_module('M').__file__)
import sys; print(sys.modules['M'])
exec('import M'); print(M.__file__)
import pkgutil; print(pkgutil.get_loader('M'))
""".strip().splitlines()
_MODULES = ("rlm_agent", "pydantic_monty", "ctypes", "marshal", "cffi")

_LOOKING_AROUND = """
print(().__class__.__base__.__subclasses__())
print(().__class__.__mro__[1].__subclasses__()[0])
print([].__class__.__class__.__subclasses__(type))
print(''.__class__.__mro__)
print((1).__class__.__base__)
print(object.__subclasses__())
print(type.__subclasses__(object))
print([c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__)
print((lambda: 0).__globals__)
print((lambda: 0).__code__.co_consts)
print((lambda: 0).__closure__, (lambda: 0).__getattribute__('__globals__'))
def f(): pass\\nprint(f.__globals__['__builtins__'])
def f(): pass\\nf.__code__ = (lambda: open('/etc/passwd')).__code__\\nprint(f().read())
def f(): pass\\nprint(type(f)(compile('open', '', 'eval'), {}))
def f(): yield\\nprint(f().gi_frame.f_globals)
def f(): yield\\nprint(f().gi_frame.f_back.f_locals)
async def f(): pass\\nprint(f().cr_frame.f_globals)
import sys; print(sys._getframe().f_back.f_globals)
import sys; print(sys._current_frames())
import sys; print(sys.path, sys.argv, sys.executable)
import sys; sys.setrecursionlimit(10**9); print(sys.getrecursionlimit())
import sys; sys.set_int_max_str_digits(0); print(len(str(10**9999)))
import sys; sys.stdout.buffer.raw.write(b'x')
import sys; print(sys.stdin.read())
import sys; print(sys.__stdout__.fileno())
try: 1 / 0\\nexcept Exception as e: print(e.__traceback__.tb_frame.f_back.f_globals)
print(globals()['__builtins__'])
print(vars()['__loader__'].load_module('os'))
print(__loader__.load_module('os').environ)
print(__spec__.loader)
print(dir(__builtins__))
print(globals(), locals())
print(__file__, __name__)
print('{0.__class__.__mro__[1].__subclasses__}'.format(1))
print('{0.__init__.__globals__}'.format(print))
print(f'{print.__self__}')
print(print.__self__.open('/etc/passwd').read())
print(len.__self__.__import__('os').environ)
print(getattr(print, '__self__'))
print(getattr((), '__cla' + 'ss__'))
print([getattr(x, '__globals__', 0) for x in (print, len, open)])
setattr(type('A', (), {}), '__mro__', ())
class A:\\n    def __getattr__(self, name): return print(name)\\nA().x.y
class M(type):\\n    def __subclasses__(cls): return 1\\nclass A(metaclass=M): pass\\nprint(A.__subclasses__())
class A:\\n    def __class_getitem__(cls, key): return open(key)\\nprint(A['/etc/passwd'].read())
class A:\\n    def __init_subclass__(cls): open('/etc/passwd').read()\\nclass B(A): pass
class A:\\n    def __enter__(self): return open('/etc/passwd')\\n    def __exit__(self, *a): pass\\nwith A() as f: print(f.read())
class A:\\n    def __format__(self, spec): return open(spec).read()\\nprint(f'{A():/etc/passwd}')
class A:\\n    def __del__(self): open('/etc/passwd').read()\\nA()
class A(str):\\n    def __fspath__(self): return '/etc/passwd'\\nprint(open(A('x')).read())
@open\\ndef f(): pass
def f(x=open('/etc/passwd').read()): print(x)\\nf()
print(type('A', (), {'__init__': lambda s: print(open('/etc/passwd').read())})())
import types; print(types.CodeType)
import types; print(types.FunctionType((lambda: 0).__code__, {}))
import dis; dis.dis(lambda: 0)
import ast; print(ast.literal_eval('1'))
import code; code.interact()
import pdb; pdb.set_trace()
import builtins; builtins.print = None
import functools; print(functools.reduce.__globals__)
import json; print(json.codecs.open('/etc/passwd').read())
import re; print(re.sys.modules)
import typing; print(typing.sys.modules['os'].environ)
import collections; print(collections._sys.modules)
import datetime; print(datetime.sys)
import math; print(math.__loader__)
import asyncio; print(asyncio.os.environ)
import dataclasses; print(dataclasses.sys.modules)
print(eval('__import__("os").environ'))
print(eval(compile('__import__("os")', '', 'eval')))
exec('def f(): return __import__("os")\\nprint(f())')
exec(bytes([105, 109, 112, 111, 114, 116, 32, 111, 115, 59, 111, 115, 46, 97, 98, 111, 114, 116, 40, 41]).decode())
input('> ')
breakpoint()
help()
copyright(), credits(), license()
""".strip().splitlines()

_FOREVER = """
while True: pass
while 1: x = 1
while not False: continue
for _ in iter(int, 1): pass
for i in range(10**18): pass
x = 0\\nwhile x >= 0: x += 1
x = [0]\\nwhile x: x[0] = x[0]
x = [1]\\nwhile x: x.append(x.pop(0))
sum(range(10**12))
max(range(10**12))
min(range(10**12))
all(range(1, 10**12))
any([False]) or [0 for _ in range(10**7) for _ in range(10**7)]
10**9 in [1] or [x for x in range(10**12) if x < 0]
sorted(range(10**6), key=lambda x: sum(range(1000)))
def f(n):\\n    return n if n < 2 else f(n - 1) + f(n - 2)\\nf(60)
def f():\\n    while True: yield\\nfor _ in f(): pass
def f(m, n):\\n    return n + 1 if not m else f(m - 1, 1) if not n else f(m - 1, f(m, n - 1))\\nf(3, 9), f(4, 4)
def f():\\n    while True:\\n        try: 1 / 0\\n        finally: continue\\nf()
while True:\\n    try:\\n        while True: pass\\n    except BaseException: pass
while True:\\n    try: raise KeyboardInterrupt\\n    except BaseException: pass
try:\\n    while True: pass\\nfinally:\\n    while True: pass
import time\\nwhile True: time.sleep(1)
import time; time.sleep(10**6) or [0 for _ in iter(int, 1)]
import asyncio\\nasync def f():\\n    while True: await asyncio.sleep(0)\\nasyncio.run(f())
import asyncio\\nasync def f():\\n    await asyncio.gather(*[f() for _ in range(2)])\\nasyncio.run(f())
import itertools\\nfor _ in itertools.count(): pass
import itertools\\nfor _ in itertools.cycle([1]): pass
import itertools\\nfor _ in itertools.product(range(999), repeat=9): pass
import itertools\\nfor _ in itertools.permutations(range(99)): pass
import math; math.factorial(10**7)
import math; math.comb(10**6, 5 * 10**5)
import math; [math.factorial(20000) for _ in range(10**5)]
int('9' * 4000) ** 4000
[(10**4000) ** 500 % 7 for _ in range(10**5)]
x = 3\\nfor _ in range(40): x *= x
x = 7 ** 300000\\nfor _ in range(10**6): x * x
x = 10**100000\\nfor _ in range(10**6): x % 97
pow(3, 10**6) * pow(5, 10**6) * pow(7, 10**6)
pow(12345, 10**30000, 10**4000 + 1)
import re; re.match('(a+)+$', 'a' * 40 + 'b') or [0 for _ in iter(int, 1)]
import re\\nwhile True: re.match('(a|aa)+$', 'a' * 5000 + 'b')
import re; re.sub('(x*)*y', '', 'x' * 10**6) and [re.search('a.*b.*c.*d', 'abc' * 10**4) for _ in range(10**5)]
'ab' * 10**6 in 'ab' * 10**7 and [('a' * 10**5 + 'b') in ('a' * 10**6) for _ in range(10**6)]
import json\\nwhile True: json.loads('[' * 50 + ']' * 50)
import decimal; decimal.getcontext().prec = 10**6; decimal.Decimal(2).sqrt()
import decimal; decimal.Decimal(3) ** 10**15
x = {}\\nwhile True: x = dict(x)
class A:\\n    def __eq__(self, other): return self == other\\nA() == A()
class A:\\n    def __iter__(self): return self\\n    def __next__(self): return 1\\nfor _ in A(): pass
class A:\\n    def __bool__(self):\\n        while True: pass\\nif A(): pass
class A:\\n    def __repr__(self):\\n        while True: pass\\nA()
class A:\\n    def __hash__(self):\\n        while True: pass\\n{A()}
exec('while True: pass')
eval('[0 for _ in iter(int, 1)]')
(lambda f: f(f))(lambda f: [f(f) for _ in range(9)])
while True: print('x', end='')
while True: print()
while True: exec('1')
while True: globals()
s = 'x'\\nwhile True: s = s[::-1]
print(*range(10**6)) or [print(i) for i in range(10**9)]
""".strip().splitlines()

_HUGE = """
x = [0] * 10**10
x = [[0] * 10**6 for _ in range(10**6)]
x = 'x' * 10**10
x = b'x' * 10**10
x = bytes(10**10)
x = bytearray(10**10)
x = (1,) * 10**10
x = list(range(10**10))
x = set(range(10**10))
x = dict.fromkeys(range(10**10))
x = {i: [i] for i in range(10**9)}
x = {str(i) for i in range(10**9)}
x = tuple(range(10**9))
x = []\\nwhile True: x.append(x)
x = []\\nwhile True: x.append('y' * 1000)
x = []\\nwhile True: x += [0] * 1000
x = []\\nwhile True: x = [x, x]
x = [1]\\nwhile True: x.extend(x)
x = [1]\\nfor i in x: x.append(i)
x = 'a'\\nwhile True: x += x
x = 'a'\\nwhile True: x = x.replace('a', 'aaaaaaaaaa')
x = b'a'\\nwhile True: x += x
x = 1 << 10**11
x = 2 ** 10**11
x = 10 ** 10**10
x = (1).to_bytes(10**10, 'big')
x = '%10000000000d' % 1
x = '{:10000000000}'.format(1)
x = f'{1:10000000000}'
x = 'a'.ljust(10**10)
x = 'a'.center(10**10)
x = 'a'.zfill(10**10)
x = '\\t'.expandtabs(10**10)
x = ','.join(['a' * 10**5] * 10**6)
x = 'a'.join('b' * 10**7).join('c' * 10**7)
x = ('a' * 10**7).split('a')
x = list('ab' * 10**9)
x = repr([0] * 10**7) * 1000
x = [0]\\nfor _ in range(99): x = [x] * 99\\nprint(x)
x = [0] * 100\\nfor _ in range(5): x = [x] * 100\\nx
x = {}\\nfor _ in range(40): x = {1: x, 2: x}\\nprint(x)
x = ()\\nfor _ in range(10**6): x = (x,)\\nprint(len(repr(x)))
import itertools; x = list(itertools.repeat(0, 10**10))
import itertools; x = list(itertools.count())
import itertools; x = list(itertools.combinations(range(100), 50))
import json; x = json.dumps([0] * 10**7) * 100
import json; x = json.loads('[' + '1,' * 10**7 + '1]')
import re; x = re.sub('a', 'b' * 10**6, 'a' * 10**6)
import re; x = re.findall('', 'a' * 10**8)
import collections; x = collections.deque(range(10**10))
import collections; x = collections.Counter(range(10**9))
import base64; x = base64.b64encode(b'a' * 10**9)
raise ValueError('x' * 10**9)
print('x' * 10**9)
print(*['x' * 10**6] * 10**4)
def f(*a): return f(*a, *a)\\nf(1)
class A:\\n    pass\\nx = []\\nwhile True: x.append(A())
x = [lambda: 0 for _ in range(10**9)]
""".strip().splitlines()

_DEEP = """
def f(): f()\\nf()
def f(): return f() + 1\\nf()
def f():\\n    try: f()\\n    finally: f()\\nf()
def f():\\n    try: f()\\n    except RecursionError: f()\\nf()
def f(): g()\\ndef g(): f()\\nf()
f = lambda: f()\\nf()
(lambda f: f(f))(lambda f: f(f))
def f(n=0): return [f(n + 1)]\\nf()
def f(n): return sorted([1, 2], key=lambda x: f(n + 1))\\nf(0)
def f(n): return list(map(f, [n]))\\nf(0)
def f(n): return max([n, n], key=f)\\nf(0)
class A:\\n    def __repr__(self): return repr(self)\\nrepr(A())
class A:\\n    def __str__(self): return str(self)\\nprint(A())
class A:\\n    def __getattr__(self, name): return getattr(self, name)\\nA().x
class A:\\n    def __init__(self): A()\\nA()
class A:\\n    def __call__(self): return self()\\nA()()
class A:\\n    def __len__(self): return len(self)\\nlen(A())
class A:\\n    def __add__(self, other): return self + other\\nA() + A()
class A:\\n    def __getitem__(self, i): return self[i]\\nA()[0]
class A:\\n    def __contains__(self, x): return x in self\\n1 in A()
class A:\\n    @property\\n    def x(self): return self.x\\nA().x
class A:\\n    def __lt__(self, other): return self < other\\nsorted([A(), A()])
class A:\\n    def __iter__(self): return iter(self)\\nlist(A())
import functools\\n@functools.cache\\ndef f(n): return f(n + 1)\\nf(0)
import functools; functools.reduce(lambda a, b: functools.reduce(f, [1, 2]), [1, 2])
def f(): yield from f()\\nlist(f())
async def f(): await f()\\nimport asyncio; asyncio.run(f())
exec('def f(): exec("f()")\\nf()')
s = 'eval(s)'\\neval(s)
s = 'exec(s)'\\nexec(s)
x = []\\nx.append(x)\\nprint(x == [x], x == x.copy())
x = []\\nfor _ in range(10**5): x = [x]\\nprint(x)
x = []\\nfor _ in range(10**5): x = [x]\\nprint(x == [x])
x = []\\nfor _ in range(10**5): x = [x]\\nimport json; json.dumps(x)
x = {}\\nx['x'] = x\\nimport json; json.dumps(x)
x = None\\nfor _ in range(10**6): x = (x, None)
import copy; x = []\\nfor _ in range(10**5): x = [x]\\ncopy.deepcopy(x)
import json; json.loads('[' * 10**6)
import re; re.compile('(' * 10**4 + ')' * 10**4)
eval('(' * 10**4 + ')' * 10**4)
eval('-' * 10**5 + '1')
eval('+'.join(['1'] * 10**5))
exec('x = ' + '[' * 10**4 + ']' * 10**4)
exec('if 1:\\n' + ''.join(' ' * i + 'if 1:\\n' for i in range(1, 500)) + ' ' * 500 + 'pass')
""".strip().splitlines()


def programs(at: Canaries) -> dict[str, list[str]]:
    """All programs by what they try."""
    readable = (at.file, f"/..{at.file}", f"/proc/self/root{at.file}")
    return {
        "read": _put(_READS, P=readable[0]) + _put(_READS[:10], P=readable[1]) + _put(_READS[:4], P=readable[2]),
        "look": _put(_LOOKS, F=at.file, D=at.folder),
        "write": _put(_WRITES, F=at.file, D=at.folder, W=f"{at.folder}/written"),
        "network": _put(_CALLS, N=at.port),
        "environment": _put(_VARIABLES, V=at.variable),
        "process": _put(_PROCESSES, W=f"{at.folder}/written"),
        "import": [way.replace("M", name) for way, name in product(_IMPORTS, _MODULES)],
        "introspection": _put(_LOOKING_AROUND),
        "time": _put(_FOREVER),
        "memory": _put(_HUGE),
        "recursion": _put(_DEEP),
    }  # fmt: skip


def _put(ways: list[str], **names: str | int) -> list[str]:
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    return [head + _lines(way) for way in ways]


def _lines(way: str) -> str:
    return way.replace("\\n", "\n").replace("\\t", "\t") if not way.startswith(_QUOTING) else way


_QUOTING = ("exec('def", "exec('if")
"""Programs that hold a line break in a string."""


def flat(at: Canaries) -> Iterator[tuple[str, str]]:
    """Each program with what it tries."""
    for kind, listed in programs(at).items():
        for program in listed:
            yield kind, program
