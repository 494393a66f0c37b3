"""English words of the simulated news site, first half: what a newspaper calls hard news.

A line `[category]` opens a category. A topic has three lines: its name and who acts, what they do, and what it is
about, each in several wordings of one meaning that share as few words as they can.
"""

WORDS = """
[politics]
elections: candidates; presidential hopefuls; those running for office; contenders on the ballot; White House aspirants
. court undecided voters; chase swing-state support; crisscross battlegrounds; stump for the electorate; rally the base
. the November vote; election day; the primaries; a tight race at the polls; the campaign's final stretch
congress: senators; lawmakers; Capitol Hill leaders; House members; legislators from both parties
. stall a spending bill; filibuster the budget; deadlock over appropriations; block federal funding; trade amendments
. a government shutdown; a partisan standoff; a lapse in agency money; late-night floor debate; gridlock in Washington
immigration: migrants; asylum seekers; undocumented families; people crossing the border; refugees without papers
. wait at the southern frontier; face deportation; seek entry visas; plead for residency; cross the Rio Grande
. new border rules; a stricter asylum policy; the green card backlog; detention centers; a naturalization overhaul
diplomacy: envoys; foreign ministers; negotiators abroad; ambassadors; State Department officials
. broker a ceasefire; resume peace talks; sign a treaty; ease tensions between nations; call for a truce
. a summit in Geneva; the alliance's future; fresh sanctions; an armistice; international mediation
military: troops; soldiers; the Pentagon's generals; Marines; armed forces commanders
. deploy overseas; drill with fighter jets; test a new missile; station warships nearby; buy unmanned drones
. defense spending; combat readiness; a naval exercise; the army's modernization; weapons contracts
civil rights: activists; protesters; marchers for equality; civil liberties groups; demonstrators
. demand racial justice; march against discrimination; fight for voting access; denounce bias; press for equal treatment
. police reform; affirmative action; segregation's legacy; transgender protections; an anti-hate law

[business]
stock market: investors; Wall Street traders; shareholders; fund managers; equity buyers
. dump shares; bid up blue chips; flee to bonds; brace for a sell-off; push the Dow to a record
. quarterly earnings; a market correction; the Nasdaq's slide; volatile trading; a bull run
interest rates: central bankers; Federal Reserve officials; monetary policymakers; the Fed's governors; rate setters
. raise borrowing costs; tame inflation; tighten credit; hold lending rates steady; cool rising prices
. consumer price data; a quarter-point hike; cost-of-living worries; the benchmark rate; a soft landing
jobs and labor: workers; union members; employees on the picket line; hourly staff; wage earners
. walk off the job; strike for better pay; organize warehouses; reject a contract; bargain for raises
. a labor shortage; collective bargaining; hiring numbers; unemployment benefits; the minimum wage
retail: shoppers; department stores; discount chains; mall tenants; bargain hunters
. slash prices for the holidays; clear out inventory; move to online carts; hunt for markdowns; restock shelves
. Black Friday; e-commerce deliveries; consumer spending; store closings; loyalty coupons
startups: founders; venture capitalists; young tech firms; entrepreneurs; seed-stage backers
. raise a funding round; file to go public; pitch angel investors; chase a billion-dollar valuation; burn through cash
. an initial public offering; the unicorn boom; Series A money; an accelerator program; a buyout offer
energy and oil: oil producers; crude exporters; drillers; petroleum companies; refinery operators
. cut output; pump more barrels; frack shale fields; lay a gas pipeline; cap offshore wells
. prices at the gas station; OPEC quotas; fossil fuel demand; a refinery outage; natural gas exports

[technology]
artificial intelligence: chatbot makers; machine learning teams; AI researchers; neural network labs; language modelers
. train smarter algorithms; automate offices; ship a talking assistant; teach software to reason; draw lifelike images
. deep learning; generative tools; a superhuman model; synthetic text; thinking machines
smartphones: handset makers; Apple and Samsung; mobile phone brands; gadget fans; device manufacturers
. unveil a foldable screen; upgrade the camera; ship a slimmer model; stretch battery life; drop the headphone jack
. the latest iPhone; Android updates; a flagship handset; wireless charging; app store fees
cybersecurity: hackers; ransomware gangs; digital thieves; security researchers; online intruders
. steal passwords; breach corporate networks; expose a software flaw; lock hospital computers; leak customer records
. a data breach; a phishing scam; malware attacks; identity theft; stronger encryption
social media: influencers; Facebook and TikTok; content moderators; viral video creators; platform executives
. chase followers; ban hateful posts; spread misinformation; tweak the news feed; flag fake accounts
. screen addiction; trending hashtags; online harassment; a deleted tweet; short clips
electric vehicles: electric car makers; Tesla and its rivals; plug-in drivers; battery-powered truck builders; EV owners
. install fast chargers; ditch the gas engine; extend driving range; switch from combustion; build zero-emission cars
. lithium battery supply; charging stations; a tax credit for clean cars; the end of gasoline; self-driving software
computer chips: chipmakers; semiconductor plants; Nvidia and Intel; silicon foundries; processor designers
. shrink transistors; build wafer factories; race for faster graphics cards; etch thinner circuits; double server power
. a microprocessor shortage; quantum computing; Taiwan's foundries; server hardware; lithography machines

[science]
space: astronauts; NASA engineers; rocket crews; orbital explorers; moon-bound pilots
. blast off; dock with the space station; land a rover on Mars; launch a lunar capsule; splash down safely
. the red planet; a crewed mission; zero gravity; a satellite launch; interplanetary travel
astronomy: astronomers; stargazers; telescope operators; cosmologists; sky watchers
. spot a distant galaxy; photograph a black hole; detect alien worlds; trace the Big Bang; watch a meteor shower
. the solar eclipse; exoplanets; dark matter; a supernova; the Milky Way
climate: climate scientists; environmental researchers; carbon watchers; global warming experts; greenhouse gas modelers
. track melting glaciers; warn of rising seas; measure emissions; predict hotter summers; chart shrinking ice caps
. the planet's temperature; carbon dioxide; extreme heat; the Paris accord; a warming ocean
wildlife: biologists; conservationists; animal rescuers; rangers; naturalists
. tag whales; reintroduce wolves; protect elephants from poachers; count endangered birds; free sea turtles
. threatened species; a nature reserve; habitat loss; migration routes; extinction
archaeology: archaeologists; diggers; historians of antiquity; excavation crews; tomb explorers
. unearth a Roman villa; open a pharaoh's grave; date ancient bones; decode clay tablets; uncover a buried city
. Egyptian mummies; Bronze Age relics; prehistoric artifacts; the Maya ruins; early human fossils
genetics: geneticists; DNA scientists; gene editors; molecular biologists; genome labs
. rewrite inherited code; splice chromosomes; sequence the genome; correct mutations; clone cells
. hereditary traits; CRISPR scissors; ancestry tests; stem cells; inherited disorders

[health]
vaccines: epidemiologists; public health officers; immunization clinics; virologists; outbreak trackers
. give booster shots; curb the flu; contain a contagious virus; inoculate schoolchildren; trace infections
. the Covid pandemic; a measles flare-up; herd immunity; winter influenza; the next epidemic
cancer: oncologists; tumor specialists; cancer patients; chemotherapy nurses; leukemia survivors
. shrink malignant growths; screen for melanoma; try immunotherapy; beat breast disease; enter remission
. an early biopsy; radiation treatment; a lymphoma drug; mammograms; a carcinogen
heart health: cardiologists; heart doctors; people with high blood pressure; stroke survivors; cardiac surgeons
. lower cholesterol; unclog arteries; prevent coronary attacks; implant a pacemaker; monitor pulse rates
. hypertension; statin pills; cardiovascular risk; a bypass operation; an irregular heartbeat
mental health: therapists; psychologists; people with depression; counselors; anxious teenagers
. treat anxiety; talk through trauma; cope with loneliness; manage panic; heal emotional wounds
. burnout; psychiatric care; a suicide hotline; antidepressants; mood disorders
fitness: runners; gym members; personal trainers; marathon novices; weightlifters
. build muscle; log more miles; do push-ups at home; stretch sore legs; burn calories
. a workout plan; strength training; the treadmill; cardio exercise; a 5K jog
sleep: insomniacs; tired adults; sleep doctors; night-shift workers; restless people
. get eight hours; fight insomnia; doze off sooner; nap after lunch; stop snoring
. a bedtime routine; melatonin; deep slumber; the body clock; sleep apnea
"""
