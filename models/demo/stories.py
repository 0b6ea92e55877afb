"""Writes simple stories from seeded templates: a hero, a place, a cause, an end, with names and pronouns that agree."""
import random

import words
from words import expand

PRONOUNS = {"girl": ("she", "her", "her"), "boy": ("he", "him", "his"), "it": ("it", "it", "its")}
OPENINGS = [
    "{Once upon a time,|One day,|Long ago,|Once,} there was a $look $kind named $N. ^$N lived $home. ^$he {loved|liked} to {play|walk|sing|explore|sit} $place.",
    "{Once upon a time,|Once,} a $look $kind named $N lived $home. Every {morning|day}, $he {went to play|took a walk|looked for new things} $place.",
    "$N was a $look $kind who lived $home. {Everyone knew $him.|$N had many friends.|$N liked to help others.}",
    "There was once a $look $kind called $N. ^$he lived $home with $his {mother|father|family|grandmother}.",
]
# Each plot is a subject and its paragraphs. $N is the hero, $F a friend, $O a thing with its colour $C.
PLOTS = [
    ("a lost $O", "One $weather {morning|day}, $N could not find $his $C $O. ^$he looked under the bed and behind the door, but it was not there. {$N felt very sad.|$N began to cry.}\n\n\"What is wrong?\" asked $F, the $fkind. \"I lost my $C $O,\" said $N. \"{Do not worry|Do not be sad},\" said $F. \"{We will look for it together.|Let us look for it.}\"\n\nThey looked $place. At last $F saw something $C {under a bush|behind a big stone|in the tall grass}. It was the $O! \"Thank you, $F!\" said $N. {From that day on, $N always put the $O back in its place.|The two friends went home and played until the evening.}"),
    ("sharing", "One day, $N had a big $food. ^$he sat down $place to eat it. Then $F, a $flook $fkind, came by. $F looked {tired and hungry|cold and hungry|sad}.\n\n\"Would you like some of my $food?\" asked $N. \"Yes, please,\" said $F. So $N cut the $food in two, and they each ate one half.\n\nThe next day, it {rained|was windy and cold}, and $N had nothing to eat. Then $F came with a basket of {nuts|berries|apples|bread}. \"You shared with me, so now I share with you,\" said $F. {They ate together and were happy.|They were best friends from then on.}"),
    ("being afraid of the dark", "$N was afraid of the dark. Every night, $he hid under the blanket. \"There is something in the corner,\" $he said.\n\n$F, the $flook $fkind, came with a small lamp. \"Let us look together,\" said $F. They looked in the corner. It was only {a $C coat|a $C chair|an old hat}!\n\n$N laughed. \"The dark only hides the things that I know,\" $he said. ^$he {was not afraid any more|slept well that night} and {had good dreams|was proud}."),
    ("planting a seed", "One spring day, $N found a little seed $place. \"What will it be?\" asked $N. \"Put it in the ground and wait,\" said $F, the wise old $fkind.\n\n$N dug a small hole, put the seed in it, and gave it water every day. After one week, nothing happened. After two weeks, nothing happened. $N wanted to give up. \"Be patient,\" said $F.\n\nThen one morning, there was a tiny green leaf. It grew and grew, until it was a {tall sunflower|big apple tree|beautiful $C flower}. $N was very {proud|happy}. ^$he had learned that good things take time."),
    ("a storm", "One day, the sky became dark, and the wind began to blow. $N was $place, far away from home. It rained harder and harder. \"I must find a dry place,\" said $N.\n\nThen $he heard a voice. \"Come in here!\" It was $F, a $flook $fkind, who sat in a {dry cave|hollow tree|little hut}. $N ran inside. They told each other stories until the storm was over.\n\nWhen the sun came out, there was a big rainbow over the {hills|trees|fields}. \"Look how beautiful it is!\" said $N. \"Without the rain, there would be no rainbow,\" said $F. They {smiled|laughed} and walked home together."),
    ("telling the truth", "One day, $N played with a $C $O inside the house. \"Do not play in here,\" $his {mother|father} had said. But $N did not listen. The $O hit a {vase|plate|cup}, and it broke.\n\n$N was scared. At first, $he wanted to hide the pieces. But $F, the $fkind, said, \"It is better to tell the truth.\"\n\nSo $N went and said, \"I am sorry. I broke it.\" \"Thank you for telling me the truth,\" was the answer. \"Accidents happen. Let us clean it up.\" $N felt {much better|light and happy again}. {From then on, $he always told the truth.|After that, $he only played outside.}"),
    ("making $meal", "One $weather day, $N wanted to make $meal. \"I have never done it before,\" said $N. \"Will you help me, $F?\" \"Of course,\" said $F, the $fkind.\n\nFirst, they got everything they needed at the market. Then they {mixed|washed and cut} everything and put it in a big pot. But $N forgot to watch the fire, and it began to smell bad. \"Oh no! It is burned!\" cried $N.\n\n\"Let us try again,\" said $F. This time, they watched it carefully. The $meal was {wonderful|very good}. They shared it with {all their friends|the whole village}, and everyone asked for more."),
    ("building a $build", "$N wanted to build a $build. ^$he took some wood and some rope, and worked all morning. But when $he tried it, the $build {broke|fell apart}. $N was angry and kicked a stone.\n\n$F, a $flook $fkind, came by. \"May I help you?\" asked $F. \"You need {stronger wood|a better knot|longer rope}.\" They worked together until the sun went down.\n\nThe next day, they tried the new $build. It worked! \"We did it!\" $N cried. \"It is easier when two work together,\" said $F. They painted it $C and {used it all summer|showed it to everyone}."),
    ("getting lost", "One day, $N followed a $C butterfly deep into the forest. When it flew away, $N looked around. ^$he did not know the way home. \"Oh no, I am lost,\" $he said.\n\n$N sat down under a tree and thought. Then $he heard the sound of water. \"The river goes past my home,\" $he said. On the way $he met $F, a $flook $fkind. \"Follow the river down the hill,\" said $F. \"I will come with you.\"\n\nSoon $N saw {the lights of home|the smoke of the chimney}. $his_c family was so happy to see $him. $F stayed for {dinner|a cup of tea}, and they all laughed about the butterfly."),
    ("a new friend", "$N was lonely. ^$he had nobody to play with. One $weather day, $he saw somebody new $place. It was $F, a $flook $fkind. $N wanted to say hello, but $he was shy.\n\nThen $F dropped a $C $O. $N picked it up. \"Is this yours?\" asked $N. \"Yes, thank you!\" said $F. \"I am new here. Would you like to play with me?\"\n\nThey played with the $O all day. In the evening, $N told $his family, \"I have a new friend!\" And $he {was never lonely again|fell asleep with a smile}."),
    ("helping somebody", "One cold day, $N heard a small voice {from a hole in the ground|from the top of a tree|behind a fence}. \"Help! I am stuck!\" It was $F, a $flook $fkind.\n\n\"Wait, I will help you,\" said $N. ^$he pulled as hard as $he could, but it did not work. So $he ran to get a {long rope|strong stick|ladder}. Slowly and carefully, $N helped $F to get out.\n\n\"You saved me!\" said $F. \"How can I thank you?\" \"You do not have to,\" said $N. \"{Friends help each other.|I am glad that you are safe.}\" Then they went home together and drank hot {milk|tea|soup}."),
    ("the moon", "One night, $N could not sleep. ^$he looked out of the window and saw the big, round moon. \"I want to touch the moon,\" said $N.\n\n^$he climbed up the highest hill, but the moon was still far away. \"It is too far,\" said $F, the $flook $fkind. \"But come with me.\" $F took $N to the lake. There was the moon, bright and silver, in the water. $N touched the water, and the moon danced.\n\n\"Now I have touched the moon,\" said $N, and yawned. Then $he went home to bed and {slept until the morning|dreamed of the stars}."),
    ("a race", "$F, the $fkind, was very fast and always said so. \"Nobody can run as fast as I can,\" said $F. \"Let us have a race,\" said $N.\n\nEverybody came to watch. At first, $F was far in front. \"I have a lot of time,\" thought $F, and sat down $place to eat a $food. But $N went on, step by step, and did not stop.\n\nWhen $F looked up, $N was almost at the end. $F ran and ran, but it was too late. $N won the race! \"It is not only important to be fast,\" said $N. \"You must also keep going.\" $F {laughed and said, \"Well done!\"|said sorry for talking so big.}"),
    ("a birthday present", "It was the birthday of $F, the $fkind. $N wanted to give $F a present, but $he had no money. \"What can I do?\" thought $N.\n\n^$he found some $C paper and some string. All day long, $he cut and {glued|folded} and painted. In the end, it was a {beautiful|pretty} $C $O.\n\n\"Happy birthday!\" said $N. $F opened the present and {smiled|jumped with joy}. \"You made it yourself! This is the best present of all,\" said $F. Then they ate cake and {danced|sang} until the evening."),
    ("a quarrel", "$N and $F, a $flook $fkind, found a $C $O $place. \"It is mine! I saw it first!\" said $N. \"No, it is mine!\" said $F. They both pulled, and the $O broke.\n\nNow nobody had it. They were both sad and sat far away from each other. After a while, $N said, \"I am sorry. I should have shared.\" \"I am sorry too,\" said $F.\n\nTogether, they mended the $O. {It was not as pretty as before, but|It took all day, but then} they could both play with it. And they never fought about it again."),
    ("a snowy day", "One winter morning, $N woke up, and everything was white. \"Snow!\" cried $N. ^$he put on $his $C {hat|coat|scarf} and ran outside. There $he met $F, the $flook $fkind.\n\nThey made a big snowman with {a carrot for a nose|two black stones for eyes}. Then they threw snowballs and {slid down the hill|laughed a lot}. But soon their feet were cold.\n\n\"Let us go inside,\" said $N. They sat by the warm fire and drank {hot chocolate|hot tea|warm milk}. \"{What a wonderful day!|This was the best day of the winter!}\" said $F."),
]


def person(rng, kind=None):
    """A name, what it is, and its three pronouns."""
    if kind is None:
        kind = rng.choice(["girl", "boy", "animal", "animal", "animal", "fantasy", "royal"])
    gender = rng.choice(["girl", "boy"])
    if kind in ("girl", "boy"):
        return rng.choice(words.GIRLS if kind == "girl" else words.BOYS), kind, PRONOUNS[kind]
    if kind in ("animal", "fantasy", "royal"):
        kind = rng.choice({"animal": words.HERO_ANIMALS, "fantasy": words.FANTASY, "royal": words.ROYAL}[kind])
    if kind in ("princess", "queen", "mermaid", "fairy"):
        gender = "girl"
    if kind in ("prince", "king", "wizard"):
        gender = "boy"
    if kind in words.ROYAL:
        names = words.GIRLS if gender == "girl" else words.BOYS
    else:
        names = words.PETS + (words.GIRLS if gender == "girl" else words.BOYS)
    return rng.choice(names), kind, PRONOUNS[gender]


def story(rng, kind=None):
    """A story and what it tells of: a dictionary with its text, the hero N, kind, the friend F, fkind, O, C, subject."""
    name, hero, (he, him, his) = person(rng, kind)
    while True:
        friend, fkind, _ = person(rng, rng.choice(["animal", "animal", "animal", "fantasy"]))
        if friend != name and fkind != hero:
            break
    subject, plot = rng.choice(PLOTS)
    look, flook = rng.sample(words.LOOKS, 2)
    names = dict(N=name, kind=hero, he=he, him=him, his=his, his_c=his.capitalize(), F=friend, fkind=fkind, look=look, flook=flook,
                 O=rng.choice(words.TOYS), C=rng.choice(words.COLOURS), food=rng.choice(words.FOODS), meal=rng.choice(words.MEALS),
                 build=rng.choice(["boat", "kite", "tree house", "cart", "bridge", "raft"]), weather=rng.choice(words.WEATHERS),
                 home=rng.choice(words.HOMES), place=rng.choice(words.PLACES))
    opening = expand(rng, rng.choice(OPENINGS), **names)
    text = opening + "\n\n" + expand(rng, plot, **names)
    return dict(names, text=text, subject=expand(rng, subject, **names))


def documents(seed, n):
    """Yields n pairs: ("stories", text) and ("chats", messages), one third and two thirds."""
    import conversations
    rng = random.Random(seed)
    for i in range(n):
        if i % 3 == 0:
            yield "stories", story(rng)["text"]
        else:
            yield "chats", conversations.conversation(rng)


if __name__ == "__main__":
    for made in range(5):
        print(story(random.Random(made))["text"], "\n---")
