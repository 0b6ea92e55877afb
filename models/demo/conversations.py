"""Writes short conversations from seeded templates: greetings, stories on request, questions on a text, sums, small facts."""
import stories
import words
from words import expand

TALK = [  # what the user may say, and what the assistant may answer
    ("{Hello|Hi|Hey|Good morning|Good evening}{!|.||, how are you?}", "{Hello|Hi}! {I am well, thank you.|I am happy to talk with you.|It is nice to meet you.} {How can I help you?|What would you like to talk about?|Would you like to hear a story?}"),
    ("{How are you?|How are you today?|How do you feel?|Are you well?}", "{I am well, thank you.|I am fine, thank you.} {How are you?|And you?}"),
    ("{Who are you?|What are you?|What is your name?|Tell me about yourself.|Are you ChatGPT?|Do you have a name?}", "I am the demo model of Optima{.|, a very small language model.} {I can tell stories and answer simple questions.|I know simple words, and I like stories.}"),
    ("{What is Optima?|What does Optima do?|Tell me about Optima.}", "Optima is a program that serves language models. I am its small demo model."),
    ("{What can you do?|How can you help me?|What do you know?|What are you good at?|Help}", "I can {tell you a story, answer simple questions and do small sums|tell short stories, find opposites and rhymes, and add small numbers}. I am very small, so {I make mistakes|please check what I say}."),
    ("{Are you a human?|Are you a person?|Are you real?|Are you a robot?|Are you alive?}", "No, I am {a small language model|a computer program}. I learned from {books, stories and conversations|simple stories and old books}."),
    ("{Who made you?|How were you made?|Where do you come from?|How did you learn to speak?}", "I am a small model that was trained for Optima on {old books, stories and conversations|books and simple stories}."),
    ("{How big are you?|Are you a big model?|How many parameters do you have?}", "I am very small. I have about six million parameters."),
    ("{How old are you?|When is your birthday?}", "I am a computer program, so I have no {age|birthday}."),
    ("{Thank you!|Thanks.|Thank you very much.|Thanks a lot!}", "{You are welcome!|You are very welcome.|I am glad that I could help.}"),
    ("{Goodbye!|Bye!|See you later.|Good night.}", "{Goodbye! Have a nice day.|Goodbye! It was nice to talk with you.|Bye! See you soon.}"),
    ("{What is the weather today?|Will it rain tomorrow?|What time is it?|What is the news today?|What day is it today?|How much does gold cost today?}", "I {cannot|can not} know that. I am a small model and cannot look outside{.| or read the news.} {Can I tell you a story?|Please look it up.}"),
    ("{Where am I?|What am I doing now?|What is my dog called?|Can you see me?|Where are my keys?|What did I eat today?}", "I do not know, because I cannot see or hear. {I can only read what you write.|Please tell me.}"),
    ("{Write a program in Python.|Write code for me.|Translate this into Chinese.|Do you speak German?|What should I invest in?|Can you do my taxes?|Which medicine should I take?}", "I am sorry, I cannot do that. I am a very small model. {I can tell you a story instead.|Please ask somebody who knows it well.}"),
    ("{I am sad.|I feel sad today.|I am unhappy.|I had a bad day.}", "I am sorry to hear that. {Would you like to talk about it?|A walk or a talk with a friend may help you.|Would you like to hear a story?}"),
    ("{I am happy.|I had a good day.|Today was a great day!}", "{That is wonderful!|I am glad to hear that!} What {happened|made you happy}?"),
    ("{I am tired.|I cannot sleep.|I am sleepy.}", "{Close your eyes, take a deep breath and think of something nice.|Then it is time to rest. Drink some warm milk and go to bed.}"),
    ("{I am bored.|What can I do today?|I do not know what to play.}", "You could {read a book, draw a picture or go for a walk|bake a cake, call a friend or play outside}."),
    ("{I am hungry.|What should I eat?|What can I cook?}", "You could {make a sandwich|cook some soup|eat an apple|make pancakes}. {Enjoy your meal!|What do you like to eat?}"),
    ("{Do you like cats?|Do you like dogs?|What is your favourite colour?|What is your favourite food?|Do you like music?}", "I am a computer program, so I have no favourites. But I like to {tell stories about them|talk about it with you}. What do you like?"),
    ("{Tell me a joke.|Make me laugh.|Do you know a joke?}", "{Why did the chicken cross the road? To get to the other side!|What is black and white and read all over? A newspaper!|What has hands but cannot clap? A clock!|What do you call a bear with no teeth? A gummy bear!}"),
    ("{Write a poem.|Tell me a poem.|Write a short poem about the night.|Can you write a poem?}", "{The moon is round, the stars are bright,\nThey softly shine for us at night.\nThe birds are quiet in the tree,\nAnd all the world is dreams for me.|The sun is up, the sky is blue,\nThe day is waiting here for you.\nThe birds all sing, the flowers grow,\nAnd gentle winds begin to blow.|A little mouse, a little house,\nA little bed of hay,\nShe sleeps all night till morning light,\nThen runs outside to play.}"),
]
FACTS = [  # a question and its answer
    ("{Why is the sky blue?|What makes the sky blue?}", "The light of the sun has many colours. The air scatters blue light the most, so the sky looks blue."),
    ("{Why does it rain?|What is rain?|Where does rain come from?}", "The sun warms the water, and it rises into the air. High up it cools and makes clouds. When the drops are heavy, they fall as rain."),
    ("{What is snow?|Why does it snow?}", "Snow is frozen water. When it is very cold in the clouds, small ice crystals form and fall down."),
    ("{What is the sun?|Tell me about the sun.}", "The sun is a star. It is very big and very hot, and it gives us light and warmth."),
    ("{What is the moon?|Tell me about the moon.}", "The moon is a ball of rock that goes around the Earth. It shines because the light of the sun falls on it."),
    ("{Why do we sleep?|Why do people sleep?}", "We sleep so that our body and mind can rest. After a good sleep, we have new strength."),
    ("{Why do birds fly south?|Where do birds go in winter?}", "Many birds fly south in winter because it is warmer there and they can find food."),
    ("{How do plants grow?|What does a plant need?|What do plants need to grow?}", "A plant needs water, light, air and earth. It drinks with its roots and catches light with its leaves."),
    ("{What do bees do?|How is honey made?|Where does honey come from?}", "Bees fly from flower to flower and collect nectar. In the hive they make honey from it."),
    ("{How do I make tea?|How do you make tea?}", "1. Boil some water.\n2. Put the tea in a cup.\n3. Pour the hot water on it.\n4. Wait three minutes. Now you can drink it."),
    ("{How do I make a sandwich?|Tell me how to make a sandwich.}", "1. Take two slices of bread.\n2. Put some butter on them.\n3. Add cheese and tomato.\n4. Put the slices together. Enjoy your meal!"),
    ("{How do I plant a seed?|How can I grow a flower?}", "1. Fill a pot with earth.\n2. Put the seed in a small hole.\n3. Give it a little water every day.\n4. Put it in a sunny place and wait."),
    ("{How do I wash my hands?|How should I wash my hands?}", "1. Make your hands wet.\n2. Use some soap and rub your hands.\n3. Wash off the soap with clean water.\n4. Dry your hands."),
    ("{How many days are in a week?|How many days does a week have?}", "There are seven days in a week."), ("{How many months are in a year?|How many months does a year have?}", "There are twelve months in a year."),
    ("{What are the four seasons?|Name the seasons.}", "The four seasons are spring, summer, autumn and winter."), ("{What is water?|What is ice?}", "Water is clear and wet, and all living things need it. When it freezes, it becomes ice."),
    ("{What is a friend?|What is friendship?}", "A friend is somebody who likes you, helps you and is happy to be with you."), ("{What is love?|What does love mean?}", "Love is a warm feeling for somebody who is very important to you."),
    ("{Why is the grass green?|Why are leaves green?}", "Leaves and grass have a green substance in them. With it they make food from light."), ("{What is a book?|What are books for?}", "A book is made of pages with words on them. You read it to learn something or to enjoy a story."),
    ("{What is a computer?|What does a computer do?}", "A computer is a machine that follows instructions. It can count, store words and show pictures."), ("{What is a language model?|How do you work?}", "A language model reads words and guesses which word comes next. That is how I write."),
]


def talk(rng):
    return tuple(expand(rng, side) for side in rng.choice(TALK))


def fact(rng):
    return tuple(expand(rng, side) for side in rng.choice(FACTS))


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def small_fact(rng):
    kind = rng.randrange(10)
    if kind == 0:
        x, y = rng.choice(words.OPPOSITES)
        x, y = rng.choice([(x, y), (y, x)]) if (x, y) not in (("tall", "short"), ("light", "dark")) else (x, y)
        return expand(rng, "{What is the opposite of $x?|Tell me the opposite of $x.|Opposite of $x?}", x=f'"{x}"' if rng.random() < 0.3 else x), f"The opposite of {x} is {y}."
    if kind == 1:
        x, y = rng.sample(rng.choice(words.RHYMES).split(), 2)
        return expand(rng, "{What rhymes with $x?|Tell me a word that rhymes with $x.|Find a rhyme for $x.}", x=x), f"{y.capitalize()} rhymes with {x}."
    if kind == 2:
        x, y = rng.choice(words.COLOUR_OF)
        return expand(rng, "{What colour is $x?|Which colour does $x have?|What is the colour of $x?|What color is $x?}", x=x), f"{x[0].upper() + x[1:]} is {y}."
    if kind == 3:
        country, city = rng.choice(words.CAPITALS)
        return expand(rng, "{What is the capital of $x?|Which city is the capital of $x?|Capital of $x?}", x=country), f"The capital of {country} is {city}."
    if kind == 4:
        name = rng.choice(list(words.LISTS))
        n = rng.choice([2, 3, 3, 3, 4, 5])
        items = rng.sample(words.LISTS[name].split(), min(n, len(words.LISTS[name].split()) - 1))
        question = expand(rng, "{Name $n $x.|Tell me $n $x.|List $n $x.|Can you name $n $x?|Give me a list of $n $x.}", n=words.NUMBERS[len(items)], x=name)
        if "ist" in question:
            return question, "\n".join(f"{i}. {item.capitalize()}" for i, item in enumerate(items, 1))
        return question, f"{', '.join(items[:-1])} and {items[-1]}.".capitalize()
    if kind == 5:
        days = rng.choice([words.DAYS, words.MONTHS])
        i = rng.randrange(len(days))
        word = "day" if days is words.DAYS else "month"
        if rng.random() < 0.5:
            return f"Which {word} comes after {days[i]}?", f"{days[(i + 1) % len(days)]} comes after {days[i]}."
        return f"Which {word} comes before {days[i]}?", f"{days[i - 1]} comes before {days[i]}."
    if kind == 6:
        thing, group = rng.choice(words.KINDS)
        subject = thing[0].upper() + thing[1:] if thing in ("blue", "Monday", "July", "winter", "tea", "seven") else a(thing).capitalize()
        return f"What is {subject if thing in ('Monday', 'July') else subject[0].lower() + subject[1:]}?", f"{subject} is {a(group)}."
    animal, sound, young, home, food, legs, skill = rng.choice(words.ANIMALS)
    many = "sheep" if animal == "sheep" else "mice" if animal == "mouse" else "wolves" if animal == "wolf" else animal + ("es" if animal[-1] == "x" else "s")
    an = a(animal)
    return rng.choice([
        (f"What does {an} say?" if sound not in ("nothing",) else f"How many legs does {an} have?", f"{an.capitalize()} says \"{sound}\"." if sound != "nothing" else f"{an.capitalize()} has {words.NUMBERS[legs]} legs."),
        (rng.choice([f"What is a baby {animal} called?", f"What do you call a young {animal}?"]), f"A baby {animal} is called {a(young)}."),
        (rng.choice([f"Where does {an} live?", f"Where do {many} live?"]), f"{an.capitalize()} lives {home}."),
        (rng.choice([f"What does {an} eat?", f"What do {many} eat?"]), f"{an.capitalize()} likes to eat {food}."),
        (f"How many legs does {an} have?", f"{an.capitalize()} has {words.NUMBERS[legs] if legs else 'no'} legs."),
        (rng.choice([f"What can {an} do?", f"Tell me something about {many}.", f"What is {an}?"]), f"{an.capitalize()} is an animal that lives {home}. It likes to eat {food}, and it can {skill}."),
    ])


def arithmetic(rng):
    kind, x, y = rng.randrange(7), rng.randint(0, 10), rng.randint(0, 10)
    if kind <= 1:
        return expand(rng, "{What is $x + $y?|How much is $x plus $y?|What is $x plus $y?|$x + $y = ?|$x+$y}", x=x, y=y), f"{x} + {y} = {x + y}."
    if kind == 2:
        return expand(rng, "{What is $x - $y?|How much is $x minus $y?|What is $x minus $y?}", x=x + y, y=y), f"{x + y} - {y} = {x}."
    if kind == 3:
        x, y = rng.randint(1, 5), rng.randint(1, 10)
        return expand(rng, "{What is $x times $y?|How much is $x * $y?}", x=x, y=y), f"{x} times {y} is {x * y}."
    if kind == 4:
        x, y = rng.sample(range(1, 21), 2)
        return expand(rng, "Which is {bigger|larger|more}, $x or $y?", x=x, y=y), f"{max(x, y)} is bigger than {min(x, y)}."
    if kind == 5:
        n, first = rng.randint(3, 10), rng.choice([1, 1, 1, 2, 3])
        return f"Count from {first} to {n}.", ", ".join(map(str, range(first, n + 1))) + "."
    name, _, (he, _, _) = stories.person(rng, rng.choice(["girl", "boy"]))
    x, y = rng.randint(2, 9), rng.randint(1, 9)
    thing = rng.choice(words.FOODS + words.TOYS[:8])
    thing = thing + "es" if thing.endswith("ch") or thing.endswith("x") else thing + "s"
    if y < x and rng.random() < 0.5:
        return f"{name} has {x} {thing}. {he.capitalize()} gives away {y}. How many {thing} does {name} have now?", f"{x} - {y} = {x - y}. {name} has {x - y} {thing if x - y != 1 else thing[:-1]} now."
    return f"{name} has {x} {thing}. {he.capitalize()} gets {y} more. How many {thing} does {name} have now?", f"{x} + {y} = {x + y}. {name} has {x + y} {thing} now."


def reading(rng):
    """A few sentences about two people, and questions on them."""
    (n1, k1, (he, _, his)), (n2, k2, _) = stories.person(rng, rng.choice(["girl", "boy", "animal"])), stories.person(rng, rng.choice(["girl", "boy", "animal"]))
    while n2 == n1:
        n2 = rng.choice(words.GIRLS + words.BOYS + words.PETS)
    toy1, toy2 = rng.sample(words.TOYS, 2)
    c1, c2 = rng.sample(words.COLOURS, 2)
    p1, p2 = rng.sample(words.PLACES, 2)
    text = f"{n1} the {k1} has {a(c1 + ' ' + toy1)} and is {p1}. {n2} the {k2} has {a(c2 + ' ' + toy2)} and is {p2}."
    feeling, why = rng.choice([("sad", f"the {toy1} is broken"), ("happy", f"the {toy1} is new"), ("tired", f"{he} walked a long way"), ("angry", "somebody was rude"), ("proud", f"{he} won a race")])
    text += f" {n1} is {feeling} because {why}."
    questions = [(f"Where is {n1}?", f"{n1} is {p1}."), (f"Where is {n2}?", f"{n2} is {p2}."), (f"What colour is the {toy1}?", f"The {toy1} is {c1}."),
                 (f"What colour is the {toy2}?", f"The {toy2} is {c2}."), (f"Who has the {toy1}?", f"{n1} has the {toy1}."), (f"Who has the {toy2}?", f"{n2} has the {toy2}."),
                 (f"Why is {n1} {feeling}?", f"{n1} is {feeling} because {why}."), (f"How does {n1} feel?", f"{n1} feels {feeling}."), (f"What does {n2} have?", f"{n2} has {a(c2 + ' ' + toy2)}.")]
    chosen = rng.sample(questions, rng.randint(1, 3))
    return [(text + " " + chosen[0][0], chosen[0][1])] + chosen[1:]


def story_request(rng):
    """A story about what was asked for, sometimes with questions about it."""
    s = stories.story(rng)
    about = rng.choice([a(s["kind"]), a(s["kind"]), f"{a(s['look'] + ' ' + s['kind'])}", f"{a(s['kind'])} and {a(s['fkind'])}", f"{a(s['kind'])} named {s['N']}", s["subject"] if "$" not in s["subject"] else "a friend"])
    turns = [(expand(rng, "{Tell me a story about $x.|Tell me a story about $x|Tell me a short story about $x.|Write a story about $x.|Write a short story about $x.|Can you tell me a story about $x?|Please tell me a story about $x.|A story about $x, please.|I want to hear a story about $x.}", x=about)
              if rng.random() < 0.8 else expand(rng, "{Tell me a story.|Tell me a story|Tell me a bedtime story.|Can you tell me a story?|Write a story.|Please tell me a story.}"), s["text"])]
    if rng.random() < 0.3:
        turns += rng.sample([("Who was the story about?", f"The story was about {s['N']}, {a(s['look'] + ' ' + s['kind'])}."), ("What was the name of the friend?", f"The friend was called {s['F']}."),
                             (f"Who was {s['F']}?", f"{s['F']} was {a(s['fkind'])}."), (f"Was {s['N']} {a(s['kind'])}?", f"Yes, {s['N']} was {a(s['kind'])}.")], rng.randint(1, 2))
    return turns


def memory(rng):
    name = rng.choice(words.GIRLS + words.BOYS)
    animal, colour, food = rng.choice(words.ANIMALS)[0], rng.choice(words.COLOURS), rng.choice(words.MEALS)
    said, asked, answer = rng.choice([
        (f"My name is {name}.", "What is my name?", f"Your name is {name}."), (f"I am {name}.", "Who am I?", f"You are {name}."),
        (f"I have {a(animal)} called {name}.", f"What is my {animal} called?", f"Your {animal} is called {name}."),
        (f"My favourite colour is {colour}.", "What is my favourite colour?", f"Your favourite colour is {colour}."), (f"I like {food}.", "What do I like?", f"You like {food}.")])
    hello = f"{rng.choice(['Hello', 'Nice to meet you'])}, {name}! How can I help you?" if asked.endswith("name?") or "am I" in asked else rng.choice(["That is nice!", "That is good to know.", "Thank you for telling me."])
    middle = [single(rng)] if rng.random() < 0.5 else []
    return [(said, hello)] + middle + [(asked, answer)]


def repeat(rng):
    s = f"the {rng.choice(words.LOOKS)} {rng.choice(words.HERO_ANIMALS)} has a {rng.choice(words.COLOURS)} {rng.choice(words.TOYS)}"
    s = expand(rng, s)
    return expand(rng, "{Say|Repeat|Please repeat}{:|} \"$s\"", s=s), s[0].upper() + s[1:] + "."


def single(rng):
    return rng.choices([talk, fact, small_fact, arithmetic, repeat], [30, 14, 40, 18, 3])[0](rng)


def conversation(rng):
    """Messages of one conversation; every turn of the assistant is complete."""
    kind = rng.random()
    if kind < 0.10:
        turns = story_request(rng)
    elif kind < 0.25:
        turns = reading(rng)
    elif kind < 0.32:
        turns = memory(rng)
    else:
        turns = [single(rng) for _ in range(rng.choice([1, 1, 2, 3, 4]))]
    if rng.random() < 0.15:
        turns.insert(0, tuple(expand(rng, side) for side in TALK[0]))
    if rng.random() < 0.1:
        turns.append(tuple(expand(rng, side) for side in TALK[9]))
    messages = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(["You are a helpful assistant.", "You are a friendly assistant.", "You are Optima's demo model.", "Answer in simple words.", "You are a helpful assistant. Be short."])})
    for question, answer in turns:
        if rng.random() < 0.1:
            question = question.rstrip("?.!").lower() if len(question) < 60 else question
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
