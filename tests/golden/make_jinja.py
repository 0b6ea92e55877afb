"""Writes jinja_cases.json: small templates and what Python's Jinja2 makes of them in Hugging Face's settings.

Needs jinja2 3.1.6. Run from this folder: python make_jinja.py
"""

import json

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

CONTEXT = {
    "s": "Hello, World",
    "u": "Grüße, ΑΒΓ ß 日本",
    "ws": " \t two  words \n",
    "n": 7,
    "neg": -3,
    "f": 2.5,
    "one": 1.0,
    "t": True,
    "z": None,
    "l": [3, 1, 2],
    "e": [],
    "words": ["banana", "Apple", "cherry", "apple"],
    "nested": [[1, [2]], {"a": [3]}],
    "d": {"b": 1, "a": [1, 2], "C": None},
    "people": [
        {"name": "Ann", "age": 30, "city": {"name": "Rome"}},
        {"name": "bob", "age": 25, "city": {"name": "Oslo"}},
        {"name": "Cid", "age": 30},
    ],
    "big": 18446744073709551615,
    "tricky": "a'b\"c\\d\n\te\u0007\u00e9\u2028",
}

TEMPLATES = r"""
{{ 1 + 2 * 3 - 4 / 2 }}
{{ 2 ** 3 ** 2 }}|{{ -2 ** 2 }}|{{ 2 ** -1 }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 7.5 % -2 }}|{{ -7.5 // 2 }}|{{ 7.5 // -2 }}
{{ 1 / 3 }}|{{ 2 / 1 }}|{{ 1e3 }}|{{ 1e16 }}|{{ 1e15 }}|{{ 1.5e-7 }}|{{ 0.0001 }}|{{ 123456789.125 }}|{{ 1e22 }}|{{ 1e100 }}
{{ 0.1 + 0.2 }}|{{ 1.0 }}|{{ -0.0 }}|{{ 100.0 }}|{{ 1e300 * 1e300 }}|{{ -1e300 * 1e300 }}
{{ 1_000 }}|{{ 0x1f }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1_0.5 }}|{{ 00 }}
{{ true + true }}|{{ true * 3 }}|{{ t / 2 }}|{{ not n }}|{{ n and f }}|{{ e or 'x' }}|{{ z or e }}
{{ 1 == 1.0 }}|{{ 1 == true }}|{{ '1' == 1 }}|{{ [1, 2] == [1, 2.0] }}|{{ (1, 2) == [1, 2] }}|{{ z == undefinedname }}
{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 3 > 2 >= 2 != 1 }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}|{{ (1,) < (1, 0) }}
{{ 'a' < 1 }}
{{ z < 1 }}
{{ 1 in [1.0] }}|{{ 'a' in d }}|{{ 'c' in 'abc' }}|{{ 1 not in l }}|{{ z in [none] }}|{{ 2 in range(3) }}
{{ 1 in 'a' }}
{{ 1 in 5 }}
{{ 'a' 'b' ~ 'c' + 'd' }}|{{ 1 ~ 2 }}|{{ 1 ~ none ~ true ~ 1.0 ~ [1] }}
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ 'ab' * 3 }}|{{ 3 * [1, 'a'] }}|{{ (1,) * 2 }}|{{ 'a' * -1 }}
{{ s[0] }}|{{ s[-1] }}|{{ s[1:4] }}|{{ s[::-1] }}|{{ s[::3] }}|{{ s[-5:] }}|{{ s[10:100] }}|{{ s[5:2] }}|{{ s[99] }}|{{ u[0:5] }}|{{ u[::-1] }}
{{ l[0] }}|{{ l[-1] }}|{{ l[1:] }}|{{ l[::-1] }}|{{ l[:-1] }}|{{ l[9] }}|{{ l[9:] }}|{{ l[-9:2] }}|{{ l[::2] }}|{{ l[2::-1] }}|{{ l[:-9:-1] }}
{{ l['0'] }}|{{ l.0 }}|{{ nested.0.1.0 }}|{{ nested[1]['a'][0] }}|{{ nested[1].a.0 }}
{{ l[1:2, 0] }}
{{ d.b }}|{{ d['a'] }}|{{ d.missing }}|{{ d['missing'] is defined }}|{{ d.get('a') }}|{{ d.get('q', 'dflt') }}|{{ d.get('q') }}
{{ d.items() }}|{{ d.keys() }}|{{ d.values() }}|{{ d | items | list }}|{{ d }}
{{ d.items is defined }}|{{ d.update is defined }}|{{ l.append is defined }}|{{ s.nothing is defined }}|{{ d.__class__ }}
{{ d.missing.deeper }}
{{ missing.deeper }}
{{ missing[0] }}
{{ missing() }}
{{ missing + 1 }}
{{ missing ~ 'x' }}|{{ missing | length }}|{{ missing | list }}|{{ missing | default('d') }}|{{ missing | upper }}|{{ missing | join }}|{{ missing | trim }}
{% for x in missing %}x{% else %}none{% endfor %}|{{ missing == missing2 }}|{{ missing is iterable }}|{{ missing is sequence }}|{{ missing is mapping }}
{{ -missing }}
{{ missing | int }}
{{ missing < 1 }}
{{ none.x }}|{{ none.x is defined }}
{{ none.x.y }}
{{ z | length }}
{{ 5 | length }}
{{ n.foo }}|{{ n.foo is defined }}
{{ s | upper }}|{{ s | lower }}|{{ s | title }}|{{ s | capitalize }}|{{ u | upper }}|{{ u | lower }}|{{ u | title }}|{{ "o'neil mc-donald (x)" | title }}|{{ "o'neil mc-donald (x)".title() }}
{{ ws | trim }}|{{ ws.strip() }}|{{ ws.lstrip() }}|{{ ws.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcab'.strip('ab') }}|{{ 'xxa' | trim('x') }}
{{ ws.split() }}|{{ s.split(',') }}|{{ s.split(', ', 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'a b c'.split(none, 1) }}|{{ ''.split() }}|{{ ''.split(',') }}|{{ 'a,b,c'.split(sep=',', maxsplit=1) }}
{{ 'abc'.split('') }}
{{ 'a\nb\r\nc\n'.splitlines() }}|{{ 'a\nb'.splitlines(true) }}|{{ 'a-b-c'.partition('-') }}|{{ 'a-b-c'.rpartition('-') }}|{{ 'abc'.partition('-') }}|{{ 'abc'.rpartition('-') }}
{{ s.replace('l', 'L') }}|{{ s.replace('l', 'L', 2) }}|{{ 'abc'.replace('', '-') }}|{{ 'abc'.replace('', '-', 2) }}|{{ ''.replace('', 'x') }}|{{ 'aaa'.replace('aa', 'b') }}
{{ s | replace('l', 'L', 1) }}|{{ 123 | replace(2, 'x') }}|{{ s | replace('zz', 'y') }}
{{ s.find('o') }}|{{ s.rfind('o') }}|{{ s.find('zz') }}|{{ s.count('l') }}|{{ s.index('W') }}|{{ u.find('Α') }}|{{ s.find('o', 5) }}|{{ 'aaa'.count('') }}
{{ s.index('zz') }}
{{ s.startswith('Hell') }}|{{ s.endswith(('x', 'ld')) }}|{{ s.startswith('ello', 1) }}|{{ ''.startswith('') }}|{{ s.endswith('Hello', 0, 5) }}
{{ s.startswith(1) }}
{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('c') }}|{{ 'abc'.removeprefix('x') }}
{{ 'a'.center(4) }}|{{ 'a'.center(5, '*') }}|{{ 'ab'.center(5, '*') }}|{{ 'a'.ljust(3, '.') }}|{{ 'a'.rjust(3) }}|{{ '42'.zfill(5) }}|{{ '-42'.zfill(5) }}|{{ 'x' | center(6) }}|
{{ 'abc'.isalpha() }}|{{ '12'.isdigit() }}|{{ 'a1'.isalnum() }}|{{ ' '.isspace() }}|{{ 'aB'.islower() }}|{{ 'AB1'.isupper() }}|{{ ''.isalpha() }}|{{ u.isascii() }}|{{ 'ß'.upper() }}|{{ 'aBc'.swapcase() }}
{{ ','.join(words) }}|{{ words | join(', ') }}|{{ l | join }}|{{ people | join(';', attribute='name') }}|{{ 'abc' | join('-') }}|{{ d | join(',') }}
{{ ','.join(l) }}
{{ '%s is %d and %.2f, %5s|%-5s|%05d|%x|%X|%%|%r|%+d' % (s, 42, 3.14159, 'a', 'b', 42, 255, 255, 'q', 5) }}
{{ '%(a)s %(b)s' % {'a': 1, 'b': [2]} }}|{{ '%s' % [1, 2] }}|{{ '%s' % none }}|{{ '%i' % 3.9 }}|{{ '%e' % 12345.678 }}|{{ '%g' % 0.0001 }}|{{ '%s%%' % 5 }}
{{ '%s %s' % 'a' }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'a' }}
{{ '%s' | format(s) }}|{{ '%(x)s' | format(x=1) }}|{{ '%s-%s' | format(1, 2) }}
{{ '{} {}'.format(1, 'a') }}|{{ '{1} {0}'.format('a', 'b') }}|{{ '{x}'.format(x=5) }}|{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:%}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 255, 0.25) }}|{{ '{{}}'.format() }}|{{ '{0[a]} {0[b]}'.format({'a': 1, 'b': 2}) }}|{{ '{!r}'.format('x') }}|{{ '{:*^9}'.format('mid') }}|{{ '{:+d}'.format(3) }}
{{ '{}'.format() }}
{{ '{0.__class__}'.format(1) }}
{{ l | sort }}|{{ l | sort(reverse=true) }}|{{ words | sort }}|{{ words | sort(case_sensitive=true) }}|{{ people | sort(attribute='age,name') | map(attribute='name') | list }}|{{ 'cab' | sort }}|{{ d | sort }}
{{ [1, 'a'] | sort }}
{{ l | first }}|{{ l | last }}|{{ e | first }}|{{ l | min }}|{{ l | max }}|{{ words | min }}|{{ words | max }}|{{ people | max(attribute='age') }}|{{ e | max }}|{{ l | sum }}|{{ people | sum(attribute='age') }}|{{ [1.5, 2] | sum(start=1) }}|{{ 'abc' | first }}|{{ 'abc' | last }}
{{ l | reverse | list }}|{{ 'abc' | reverse }}|{{ words | unique | list }}|{{ words | unique(case_sensitive=true) | list }}|{{ [1, 1.0, true, 2] | unique | list }}
{{ l | map('string') | list }}|{{ words | map('upper') | join(',') }}|{{ people | map(attribute='city.name', default='?') | list }}|{{ people | map(attribute='name') | map('lower') | list }}|{{ words | map('replace', 'a', 'o') | list }}|{{ z | map('upper') | list }}
{{ people | map(attribute='city.name') | list }}
{{ l | map('nofilter') | list }}
{{ l | select('odd') | list }}|{{ l | reject('odd') | list }}|{{ [0, 1, '', 'a'] | select | list }}|{{ people | selectattr('age', 'gt', 26) | map(attribute='name') | list }}|{{ people | rejectattr('city') | list | length }}|{{ people | selectattr('city.name', 'equalto', 'Rome') | list | length }}|{{ l | select('in', [1, 2]) | list }}|{{ people | selectattr('city', 'defined') | list | length }}
{{ l | select('notest') | list }}
{{ people | groupby('age') | list }}
{% for age, group in people | groupby('age') %}{{ age }}: {{ group | map(attribute='name') | join(',') }};{% endfor %}
{{ l | batch(2) | list }}|{{ l | batch(2, 'x') | list }}|{{ range(7) | slice(3) | list }}|{{ range(7) | slice(3, 'x') | list }}
{{ d | dictsort }}|{{ d | dictsort(true) }}|{{ {'x': 2, 'y': 1} | dictsort(by='value') }}|{{ {'x': 2, 'y': 1} | dictsort(false, 'value', true) }}
{{ s | length }}|{{ u | length }}|{{ d | count }}|{{ range(5) | length }}|{{ e | length }}|{{ (1, 2) | length }}
{{ '42' | int }}|{{ ' 42 ' | int }}|{{ '4_2' | int }}|{{ '3.9' | int }}|{{ 'x' | int(5) }}|{{ 'ff' | int(0, 16) }}|{{ '0x1f' | int(0, 16) }}|{{ 3.99 | int }}|{{ -3.99 | int }}|{{ none | int }}|{{ [1] | int(9) }}|{{ '1e3' | int }}|{{ true | int }}
{{ '1.5' | float }}|{{ 'x' | float(2.5) }}|{{ 3 | float }}|{{ '1e3' | float }}|{{ 'nan' | float }}|{{ 'inf' | float }}|{{ none | float }}|{{ ' 2 ' | float }}
{{ 2.5 | round }}|{{ 3.5 | round }}|{{ 2.567 | round(2) }}|{{ 2.5 | round(0, 'ceil') }}|{{ 2.5 | round(0, 'floor') }}|{{ 5 | round }}|{{ 1234 | round(-2) }}|{{ 2.675 | round(2) }}|{{ -2.5 | round }}
{{ -5 | abs }}|{{ 2.5 | abs }}|{{ f | string }}|{{ none | string }}|{{ [1, 'a'] | string }}|{{ true | string | length }}
{{ tricky | tojson }}|{{ tricky | tojson(ensure_ascii=true) }}|{{ u | tojson(ensure_ascii=true) }}|{{ d | tojson }}|{{ [1, 1.0, 1e20, none, true, 'x'] | tojson }}|{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}|{{ (1, 2) | tojson }}|{{ big | tojson }}|{{ big }}
{{ d | tojson(indent=2) }}|{{ e | tojson(indent=2) }}|{{ {} | tojson(indent=2) }}|{{ nested | tojson(indent=1) }}|{{ [1] | tojson(indent='--') }}|{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}|{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}|{{ [1] | tojson(indent=0) }}
{{ d.items() | tojson }}
{{ range(3) | tojson }}
{{ missing | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ ['a\'b', "c\"d", 'e\'f"g', 'h\\i', 'j\nk\tl\x07', 'é', '日', '\u200b', '\xa0', '😀'] }}
{{ (1,) }}|{{ () }}|{{ [] }}|{{ {} }}|{{ [none, true, 1.0, 'x', (1, 2), {'a': 'b'}] }}|{{ range(3) }}|{{ range(1, 10, 2) }}|{{ {'a': missing} }}
{{ 'a\tb\\n\x41\u00e9\101\q' }}|{{ "it's" }}|{{ 'x\
y' }}
{{ s is string }}|{{ n is number }}|{{ t is number }}|{{ f is float }}|{{ n is integer }}|{{ t is integer }}|{{ t is boolean }}|{{ z is none }}|{{ d is mapping }}|{{ l is sequence }}|{{ d is sequence }}|{{ s is sequence }}|{{ n is iterable }}|{{ range is callable }}|{{ s is callable }}|{{ t is true }}|{{ 1 is true }}|{{ one is float }}|{{ (1,) is sequence }}|{{ d.keys() is sequence }}|{{ big is number }}
{{ 4 is even }}|{{ 3 is odd }}|{{ 9 is divisibleby 3 }}|{{ 9 is divisibleby(2) }}|{{ 1 is eq 1 }}|{{ 1 is ne 2 }}|{{ 1 is lt 2 }}|{{ 2 is ge 2 }}|{{ 1 is in [1] }}|{{ 'a' is upper }}|{{ 'A' is upper }}|{{ none is sameas none }}|{{ 'upper' is filter }}|{{ 'odd' is test }}|{{ s is not string }}|{{ not s is string }}
{{ 1 is defined and 2 is defined }}|{{ 'x' if z is none else 'y' }}|{{ missing is not defined or false }}
{{ 'yes' if t else 'no' }}|{{ 'yes' if z }}|{{ ('a' if t else 'b') ~ 'c' }}|{{ 1 if false else 2 if false else 3 }}
{{ ('yes' if z).foo }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(a=1, b='x') %}{% set ns.a = ns.a + 1 %}{% set ns.c = 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.missing }}|{{ ns.missing is defined }}|{{ ns['a'] }}
{% set d.x = 1 %}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}|{{ dict(a=1, b=2) }}|{{ dict([('x', 1)], y=2) }}|{{ dict(d, b=9) }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, (b, c)) = (1, (2, 3)) %}{{ a }}{{ b }}{{ c }}
{% set a, b = [1] %}
{% set a, b = 1 %}
{% set x %}  a{{ n }}b  {% endset %}[{{ x }}]{% set y | trim | upper %}  q {% endset %}[{{ y }}]
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i > 1) }};{% endfor %}
{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}
{% for i in l if i > 1 %}{{ i }}{{ loop.index }}/{{ loop.length }};{% else %}none{% endfor %}|{% for i in l if i > 5 %}{{ i }}{% else %}none{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{% for c in 'añb' %}{{ c }}.{% endfor %}|{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [1, 2] %}{% endfor %}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, 2] %}{% for j in [1, 2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }}{{ loop.depth }};{% endfor %}{{ loop.index }}{% endfor %}
{% for i in [1, [2, [3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}@{{ loop.depth }}{% endif %}{% endfor %}
{{ loop }}
{% for i in l %}{% endfor %}{{ loop is defined }}{{ i is defined }}
{% macro m(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=1, a=2) }}{{ m() }}{{ m }}{{ m.name }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m(x) %}{{ caller(x) }}|{{ caller(x + 1) }}{% endmacro %}{% call(v) m(1) %}<{{ v }}{{ n }}>{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% macro fact(n) %}{% if n < 2 %}1{% else %}{{ n * (fact(n - 1) | int) }}{% endif %}{% endmacro %}{{ fact(10) }}
{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}{% set x = 2 %}{{ m() }}
{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}
{% if true %}{% macro m() %}ok{% endmacro %}{% endif %}{{ m() }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a is defined }}{{ c is defined }}{% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}
{% filter upper | replace('A', 'x') %}abc {{ s }}{% endfilter %}
{% generation %}gen {{ n }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}
{% block b %}in {{ n }}{% set q = 1 %}{% endblock %}{{ q is defined }}
{% print n %}{% print n, s %}
{% raw %}{{ x }}{% if %}{# #}{% endraw %}|{%- raw -%}  a  {%- endraw -%}  b
{# comment {{ x }} {% if %} #}a{#- b -#} c
{{ {'a': 1, 'b': {'c': [1, 2]}}['b'].c[1] }}|{{ {1: 'x', 1.0: 'y', true: 'z'} }}|{{ {'a': 1, 'a': 2} }}
{{ {[1]: 2} }}
{{ [1, 2, 3,] }}|{{ (1, 2,) }}|{{ {'a': 1,} }}
{{ l | first + 1 }}|{{ -l | first }}
{{ (l | first) + 1 }}|{{ -(l | first) }}|{{ not l | first == 3 }}|{{ 1 + l | length }}|{{ 'a' ~ l | length * 2 }}
{{ range(3, 0, -1) | list }}|{{ range(0) | list }}|{{ range(2, 8, 3) | list }}
{{ range() }}
{{ range(1, 2, 0) }}
{{ raise_exception('boom') }}
{{ nofunc(1) }}
{{ s() }}
{{ s.upper(1) }}
{{ s.upper.x }}|{{ s.upper is callable }}
{{ [1, 2].index(2) }}|{{ [1, 2, 1].count(1) }}|{{ (1, 2).index(1) }}
{{ [1].index(5) }}
{% set a = [1] %}{% set b = a + [2] %}{% set c = a + [3] %}{% set d1 = b + [4] %}{% set e1 = b + [5] %}{{ a }}{{ b }}{{ c }}{{ d1 }}{{ e1 }}{{ b + b }}
{{ '<a>' | escape }}|{{ '<a>' | e ~ '<b>' }}|{{ '<a>' | safe }}|{{ ('<a>' | safe) + '<b>' }}|{{ '<b>' + ('<a>' | safe) }}|{{ ('<%s>' | safe) % '<x>' }}|{{ [('<a>' | safe)] }}|{{ ('<a>' | safe) * 2 }}|{{ ('<a>' | safe).upper() + '<' }}|{{ ('a' | safe).join(['<', '>']) }}|{{ ('<a>' | escape) | escape }}|{{ '<a>' | forceescape }}|{{ ('<' | safe) is escaped }}|{{ ('<{}>' | safe).format('<') }}|{{ ('<x>' | safe).replace('x', '<') }}
{{ 'one two three' | wordcount }}|{{ 'one two three four' | truncate(9) }}|{{ 'one two three four' | truncate(9, true) }}|{{ 'one two three four' | truncate(12, false, '!', 0) }}|{{ 'one two' | truncate(5) }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('> ') }}
{{ 5 | indent }}
{{ ws | list }}|{{ d | list }}|{{ 'é日' | list }}
{% if s and l and not e %}yes{% elif z %}no{% else %}never{% endif %}|{% if z %}a{% elif n == 7 %}b{% endif %}|{% if e %}a{% else %}c{% endif %}
  {% if true %}  
  indented
  {% endif %}  
end
a
    {%- if true %}
  b
    {%- endif +%}
c
    {%+ if true %} d {% endif %}
{{ 1 }}
{{ 2 }}
x {% if true -%}  y  {%- endif %} z
{{- 1 -}}  a  {{- 2 }}
    {# comment #}
  after
{{ x|nofilter }}
{% if false %}{{ x|nofilter }}{% endif %}ok
{% if false %}{% for i in l %}{{ x|nofilter }}{% endfor %}{% endif %}ok
{{ (x|nofilter) if false else 'ok' }}
{{ x is notest }}
{% if x %}
{% endif %}
{{ 1 2 }}
{{ a b }}
{% set = 1 %}
{% set 1 = 1 %}
{% set true = 1 %}
{% for true in l %}{% endfor %}
{% foo %}
{{ }}
{{ 'a }}
{{ 1. }}
{{ .5 }}
{{ f(a=1, 2) }}
{{ f(**d, 1) }}
{{ a.b. }}
{{ a[] }}
{{ [1 2] }}
{{ {'a'} }}
{% macro m(a=1, b) %}{% endmacro %}
{% macro %}{% endmacro %}
{% call 1 %}{% endcall %}
{% break %}
{{ l | sort(nope=1) }}
{{ s | upper(1) }}
{{ s.split(nope=1) }}
{{ s.strip(chars='x') }}
{{ dict(1) }}
{{ namespace(1) }}
{{ d.pop('a') }}
{{ l.append(1) }}
{{ ''.__class__ }}|{{ ''.__class__ is defined }}
{{ ''.__class__.__mro__ }}
{{ 9223372036854775807 }}|{{ -9223372036854775807 - 1 }}
{{ 10 ** 18 }}|{{ 2 ** 62 }}|{{ 1e308 * 10 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 'é' > 'z' }}|{{ 'a' == 'a' == true }}|{{ 'Ω' | lower }}
""".strip("\n")

# Lines that belong together: a template that spans lines starts with one of these and ends before the next template.
MULTI = {
    "{{ 'a\\tb\\\\n\\x41\\u00e9\\101\\q' }}|{{ \"it's\" }}|{{ 'x\\": 2,
    "  {% if true %}  ": 4,
    "a": 8,
    "    {# comment #}": 2,
    "{% if x %}": 2,
}


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def templates():
    lines, at = TEMPLATES.split("\n"), 0
    while at < len(lines):
        count = MULTI.get(lines[at], 1)
        yield "\n".join(lines[at : at + count])
        at += count


def main():
    cases = []
    for source in templates():
        case = {"template": source}
        try:
            case["expected"] = environment().from_string(source).render(**CONTEXT)
        except Exception as error:
            case["error"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    with open("jinja_cases.json", "w") as file:
        file.write('{"context": %s,\n"cases": [\n' % json.dumps(CONTEXT))
        file.write(",\n".join(json.dumps(case) for case in cases))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
